"""The wire format of protocol buffers: fields by number, without a schema and without trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: Any, position: int, error: Callable[[str], Exception], end: int | None = None) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and the position behind it; nothing from ``end`` on is looked at."""
    stop = len(data) if end is None else end
    value = shift = 0
    while shift < 64:
        if position >= stop:
            raise error("ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
        shift += 7
    raise error("has a number of more than 64 bits")


def spans(data: Any, start: int, end: int, error: Callable[[str], Exception]) -> Iterator[tuple[int, int, int | slice]]:
    """Number, wire type and value of each field of the message at ``start`` to ``end``: an int, or where a string or message lies.

    Parameters
    ----------
    data:
        The bytes, in memory or as :class:`~ckptaudit.read.file_bytes.FileBytes`; only those between the fields' contents are looked at.
    error:
        Makes the exception to raise from words that follow the name of the thing ("ends within a field").
    """
    near: bytes = data if isinstance(data, bytes) else b""
    first, last = 0, len(near)
    stop = min(end, last)
    position = start
    while position < end:
        if position >= last:  # of what is at hand of a large file
            near, first, last = data.near(position)
            stop = min(end - first, len(near))
        at = position - first
        tag = near[at]
        at += 1
        # Most numbers take one byte.
        if tag >= 0x80:
            tag, at = varint(near, at - 1, error, stop)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise error("has a field of number 0")
        if wire in (VARINT, BYTES):
            if at < stop and near[at] < 0x80:
                value = near[at]
                at += 1
            else:
                value, at = varint(near, at, error, stop)
            if wire == VARINT:
                position = first + at
                yield number, wire, value
                continue
        elif wire in (FIXED32, FIXED64):
            value = 4 if wire == FIXED32 else 8
        else:
            raise error(f"has a field of the unknown wire type {wire}")
        begin = first + at
        position = begin + value
        if position > end:
            raise error("ends within a field")
        content = slice(begin, position)
        yield number, wire, content if wire == BYTES else int.from_bytes(data[content], "little")


def fields(data: bytes, error: Callable[[str], Exception]) -> Iterator[tuple[int, int, int | bytes]]:
    """Like :func:`spans` of a whole message in memory, with the bytes of strings and messages themselves."""
    for number, wire, value in spans(data, 0, len(data), error):
        yield number, wire, data[value] if isinstance(value, slice) else value


def signed(value: int) -> int:
    """The number that an ``int64`` or ``int32`` field means."""
    return value - (1 << 64) if value >= 1 << 63 else value


def numbers(message: bytes, wanted: frozenset[int], error: Callable[[str], Exception]) -> dict[int, int]:
    """The last value of each wanted numeric field.

    Raises
    ------
    Exception
        From ``error``: a wanted field is no number.
    """
    found: dict[int, int] = {}
    for number, _, value in fields(message, error):
        if number in wanted:
            if not isinstance(value, int):
                raise error(f"has text in field {number}, where a number belongs")
            found[number] = value
    return found
