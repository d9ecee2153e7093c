"""LevelDB's table, as TensorFlow writes it for the index of a checkpoint: sorted keys in blocks, each with a checksum.

TensorFlow's own reader allocates what a handle declares and aborts the process on some contradictions; this one checks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.read.protobuf import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOOTER = 48
MAGIC = bytes.fromhex("57fb808b247547db")

_TRAILER = 5
_NONE, _SNAPPY = 0, 1
_MAX_KEY = 1 << 16
_MAX_ENTRIES = 1 << 18
_MAX_KEYS = 256 << 20
_MAX_UNPACKED = 8 << 20  # TensorFlow packs blocks of 256 KiB
_CRC_MASK = 0xA282EAD8


def is_table(data: Any) -> bool:
    """Whether the magic number stands at the end."""
    return len(data) >= FOOTER and data[-8:] == MAGIC


def entries(data: Any, limit: int, error: Callable[[str], Exception]) -> Iterator[tuple[bytes, bytes]]:
    """Every key with its value, in the order of the keys.

    Parameters
    ----------
    data:
        The whole file.
    limit:
        Most bytes of one block, and of all blocks together after unpacking.
    error:
        Makes the exception to raise from words that follow the name of the thing.
    """
    size = len(data)
    if not is_table(data):
        raise error("does not end in the magic number of a table")
    footer = bytes(data[size - FOOTER : size - len(MAGIC)])
    _, _, position = _handle(footer, 0, error)  # the meta index, which TensorFlow leaves empty
    offset, length, _ = _handle(footer, position, error)
    end = size - FOOTER
    before = b""
    count, keys, left = 0, 0, limit
    visited: set[int] = {offset}
    index = _block(data, offset, length, end, left, error)
    for _, handle in _entries_of(index, error):
        offset, length, _ = _handle(handle, 0, error)
        if offset in visited:
            raise error(f"has two handles to the block at byte {offset:,}")
        visited.add(offset)
        block = _block(data, offset, length, end, left, error)
        left -= len(block)
        for key, value in _entries_of(block, error):
            if count and key < before:
                raise error("has keys that are not sorted")
            before = key
            count += 1
            keys += len(key)
            if count > _MAX_ENTRIES or keys > _MAX_KEYS:
                raise error(f"has more than {_MAX_ENTRIES:,} keys, or more than {_MAX_KEYS:,} bytes of them")
            yield key, value


def _handle(data: bytes, position: int, error: Callable[[str], Exception]) -> tuple[int, int, int]:
    offset, position = varint(data, position, error)
    length, position = varint(data, position, error)
    return offset, length, position


def _block(data: Any, offset: int, length: int, end: int, limit: int, error: Callable[[str], Exception]) -> bytes:
    if offset + length + _TRAILER > end:
        raise error(f"has a block at bytes {offset:,} to {offset + length:,}, where it cannot be in a file of {len(data):,}")
    if length > limit:
        raise error(f"has blocks of more than {limit:,} bytes")
    content = bytes(data[offset : offset + length])
    kind = data[offset + length]
    told = int.from_bytes(data[offset + length + 1 : offset + length + _TRAILER], "little")
    if kind not in (_NONE, _SNAPPY):
        raise error(f"has a block of the unknown compression {kind}")
    crc = crc32c(bytes((kind,)), crc32c(content))
    if ((crc >> 15 | crc << 17) + _CRC_MASK) & 0xFFFFFFFF != told:
        raise error(f"has a block whose checksum is wrong, at byte {offset:,}")
    return content if kind == _NONE else unsnap(content, min(limit, _MAX_UNPACKED), error)


def _entries_of(block: bytes, error: Callable[[str], Exception]) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise error("has a block too short for its own end")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise error(f"has a block with {restarts:,} restart points, more than fit in")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position, error)
        own, position = varint(block, position, error)
        length, position = varint(block, position, error)
        if shared > len(key) or own + length > end - position:
            raise error("has an entry that reaches past its block, or shares more than there is")
        if shared + own > _MAX_KEY:
            raise error(f"has a key of {shared + own:,} bytes; more than {_MAX_KEY:,} are not read")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def unsnap(packed: bytes, limit: int, error: Callable[[str], Exception]) -> bytes:
    """Unpack a snappy block, of which no more than ``limit`` bytes may come."""
    size, position = varint(packed, 0, error)
    if size > limit:
        raise error(f"has a block that would unpack to {size:,} bytes; more than {limit:,} are not read")
    out = bytearray()
    end = len(packed)
    while position < end:
        tag = packed[position]
        position += 1
        kind, rest = tag & 3, tag >> 2
        if kind == 0:
            length = rest + 1
            if rest >= 60:
                wide = rest - 59
                length = int.from_bytes(packed[position : position + wide], "little") + 1
                position += wide
            if length > end - position or len(out) + length > size:
                raise error("has a block whose compression is damaged")
            out += packed[position : position + length]
            position += length
            continue
        if kind == 1:
            length, back, wide = (rest & 7) + 4, (rest >> 3) << 8, 1
        else:
            length, back, wide = rest + 1, 0, 2 if kind == 2 else 4
        back |= int.from_bytes(packed[position : position + wide], "little")
        position += wide
        if position > end or not 0 < back <= len(out) or len(out) + length > size:
            raise error("has a block whose compression is damaged")
        start = len(out) - back
        piece = bytes(out[start : start + length])
        out += (piece * (length // len(piece) + 1))[:length]  # a copy may reach into what it writes itself
    if len(out) != size:
        raise error("has a block whose compression is damaged")
    return bytes(out)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _table()


def crc32c(data: bytes, crc: int = 0) -> int:
    """Castagnoli's checksum of ``data``, continuing from ``crc``."""
    crc ^= 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
