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
        for bits in (4, 6, 8, 16, 19, 4):  # in each round the three change their parts
            a, b, c = b, c + b & _ALL, (a - c & _ALL) ^ _turned(c, bits)
    x, y, z = unpack("<III", data[whole:].ljust(12, b"\0"))
    a, b, c = a + x & _ALL, b + y & _ALL, c + z & _ALL
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, (c ^ b) - _turned(b, bits) & _ALL, a
    return int(b)


def _turned(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _ALL
