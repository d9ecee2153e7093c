"""The checksum that HDF5 keeps of its newer headers: ``lookup3`` by Bob Jenkins (HDF5 File Format Specification 3.0, appendix C)."""

from __future__ import annotations

from struct import iter_unpack, unpack

_ALL = 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """``hashlittle`` of the bytes, begun at 0."""
    a = b = c = (0xDEADBEEF + len(data)) & _ALL
    if not data:
        return c
    whole = (len(data) - 1) // 12 * 12  # the last one to twelve bytes are mixed in another way
    for x, y, z in iter_unpack("<III", data[:whole]):
        a, b, c = a + x & _ALL, b + y & _ALL, c + z & _ALL
        a = a - c & _ALL ^ (c << 4 & _ALL | c >> 28)
        c = c + b & _ALL
        b = b - a & _ALL ^ (a << 6 & _ALL | a >> 26)
        a = a + c & _ALL
        c = c - b & _ALL ^ (b << 8 & _ALL | b >> 24)
        b = b + a & _ALL
        a = a - c & _ALL ^ (c << 16 & _ALL | c >> 16)
        c = c + b & _ALL
        b = b - a & _ALL ^ (a << 19 & _ALL | a >> 13)
        a = a + c & _ALL
        c = c - b & _ALL ^ (b << 4 & _ALL | b >> 28)
        b = b + a & _ALL
    x, y, z = unpack("<III", data[whole:].ljust(12, b"\0"))
    a, b, c = a + x & _ALL, b + y & _ALL, c + z & _ALL
    c = (c ^ b) - (b << 14 & _ALL | b >> 18) & _ALL
    a = (a ^ c) - (c << 11 & _ALL | c >> 21) & _ALL
    b = (b ^ a) - (a << 25 & _ALL | a >> 7) & _ALL
    c = (c ^ b) - (b << 16 & _ALL | b >> 16) & _ALL
    a = (a ^ c) - (c << 4 & _ALL | c >> 28) & _ALL
    b = (b ^ a) - (a << 14 & _ALL | a >> 18) & _ALL
    mixed: int = (c ^ b) - (b << 24 & _ALL | b >> 8) & _ALL
    return mixed
