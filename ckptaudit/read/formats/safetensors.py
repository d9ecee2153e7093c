"""safetensors: the length of a JSON header, the header, and the bytes of the tensors without gaps.

Checked as strictly as the reference implementation does, and in one place more strictly: a name given twice is refused,
since readers disagree on which of the two counts.
"""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.read.checkpoint import Branch, Checkpoint
from ckptaudit.read.header_table import HeaderTable
from ckptaudit.read.strict_json import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptaudit.read.source import Source

NAME = "safetensors"

_DTYPES = MappingProxyType(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F4": "float4_e2m1fn_x2",
        "C64": "complex64",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
    }
)

#: Widths of dtypes that no framework here has a name for; their values are not decoded.
_FOREIGN_BITS = MappingProxyType({"F6_E2M3": 6, "F6_E3M2": 6})
_MAX_RANK = 64
_METADATA = "__metadata__"
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
#: Objects in a header that are no tensors; an honest one has one, its metadata.
_MAX_OTHERS = 100
#: What stand for objects that are rows, and for those that are neither rows nor kept.
_ROW, _UNFIT = object(), object()


class _UnfitError(Exception):
    """An object is no tensor."""


def recognise(source: Source) -> bool:
    """Whether a JSON object begins behind eight bytes that are no text."""
    head = source.head
    if head[8:9] == b"{":
        return not all(0x20 <= byte < 0x7F for byte in head[:8])
    # A header that is no JSON, or that does not begin in this file, is still told from other binary files by its plausible length.
    length = int.from_bytes(head[:8], "little")
    return (
        source.size >= 8
        and 0 < length <= 1 << 20
        and head[:2] not in (b"PK", b"\x80\x02")
        and head[0] != 0x80
        and not source.head[8:].strip(b"\x00")
    )


def read(source: Source) -> Checkpoint:
    """Read the header."""
    path, size = source.path, source.size

    def corrupt(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(path, f"a safetensors file {reason}")

    length = int.from_bytes(source.head[:8], "little")
    if not 2 <= length <= source.max_header:
        raise corrupt(f"whose header would be {length:,} bytes long; from 2 to {source.max_header:,} are read")
    begin = 8 + length
    if begin > size:
        raise corrupt(f"that is truncated within its header: {size:,} of at least {begin:,} bytes")
    if source.data[8:9] != b"{":
        raise corrupt("whose header is no JSON object")
    table, metadata, strange = _table(source, begin, corrupt)
    remarks = (f"tensors have fields that the format does not know: {', '.join(sorted(strange)[:5])}",) if strange else ()
    _check_layout(table, size - begin, corrupt)
    branch = Branch("", "model", table)
    reason = "a safetensors file has no branches" if table else "the file holds no tensors"
    return Checkpoint(path, NAME, "torch", branch, reason, (branch,), MappingProxyType(metadata), (), size, remarks)


def _table(source: Source, begin: int, corrupt: Any) -> tuple[HeaderTable, dict[str, str], set[str]]:
    """What the header says: tensors, metadata, and names of fields that should not be there.

    Each tensor becomes a row as soon as its object is parsed: as objects a million of them would take twenty times their header.
    """
    strange: set[str] = set()

    def parsed(mark: Callable[[int], Any]) -> tuple[HeaderTable, dict[str, Any]]:
        """The rows, and the header in which what ``mark`` makes of a row's number stands for each."""
        table, others = HeaderTable(source.path, begin), 0

        def shorten(found: dict[str, Any]) -> Any:
            nonlocal others
            if found.keys() >= _FIELDS:
                try:
                    strange.update(_add(table, "", found, _UnfitError))
                except _UnfitError:
                    pass
                else:
                    return mark(table.count - 1)
            others += 1
            holds_objects = any(value is _ROW or value is _UNFIT or isinstance(value, (dict, tuple)) for value in found.values())
            return found if others <= _MAX_OTHERS or holds_objects else _UNFIT

        return table, parse(source.data[8:begin], lambda words: corrupt(f"whose header {words}"), shorten)

    # Rows and names are in one order, unless something is within a tensor's object, or is none: then each row's number is kept.
    table, header = parsed(lambda row: _ROW)
    metadata = header.pop(_METADATA, {})
    if len(header) != table.count or not all(value is _ROW for value in header.values()):
        table, header = parsed(lambda row: (row,))
        metadata = header.pop(_METADATA, {})
        for name, value in header.items():
            if not isinstance(value, tuple):
                _add(table, name, value, corrupt)  # raises
        rows = {name: value[0] for name, value in header.items()}
    else:
        rows = header
        for row, name in enumerate(rows):
            rows[name] = row
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise corrupt("whose metadata is not a mapping of strings to strings")
    table.name(rows)
    return table, metadata, strange


def _add(table: HeaderTable, name: str, entry: Any, corrupt: Any) -> set[str]:
    """Add the row of a tensor; its fields that should not be there."""
    shape, dtype, first, last, strange = _entry(name, entry, corrupt)
    table.add(shape, dtype, first, last - first, "" if dtype in DTYPE_BITS else f"values of dtype {dtype} are not decoded")
    return strange


def _entry(name: str, entry: Any, corrupt: Any) -> tuple[tuple[int, ...], str, int, int, set[str]]:
    """Shape, dtype, first and last byte of one tensor, and the names of fields that should not be there."""
    if not isinstance(entry, dict) or not entry.keys() >= _FIELDS:
        raise corrupt(f"whose tensor {name!r} lacks dtype, shape or data_offsets")
    word, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = (
        DTYPE_BITS[_DTYPES[word]]
        if isinstance(word, str) and word in _DTYPES
        else _FOREIGN_BITS.get(word)
        if isinstance(word, str)
        else None
    )
    if bits is None:
        raise corrupt(f"whose tensor {name!r} has the unknown dtype {word!r}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise corrupt(f"whose tensor {name!r} has a shape that is no list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int and 0 <= n < 2**63 for n in offsets):
        raise corrupt(f"whose tensor {name!r} has data_offsets that are no pair of positions")
    if word == "F4":
        bits = 4
    numel = prod(shape)
    if numel >= 2**63 or numel * bits % 8 or numel * bits // 8 != offsets[1] - offsets[0]:
        raise corrupt(f"whose tensor {name!r} of shape {shape} and dtype {word} cannot lie at bytes {offsets[0]:,} to {offsets[1]:,}")
    if word == "F4" and shape:
        if shape[-1] % 2:
            raise corrupt(f"whose tensor {name!r} of dtype F4 has an odd last dimension, which cannot be packed in pairs")
        shape = [*shape[:-1], shape[-1] // 2]  # torch counts pairs
    return tuple(shape), _DTYPES.get(word, word), offsets[0], offsets[1], set(entry) - _FIELDS


def _check_layout(table: HeaderTable, room: int, corrupt: Any) -> None:
    reached = 0
    for first, last, name in table.spans():
        if first < reached:
            raise corrupt(f"whose tensor {name!r} overlaps another")
        if first > reached:
            raise corrupt(f"with a hole of {first - reached:,} bytes before tensor {name!r}")
        reached = last
    if reached > room:
        raise corrupt(f"that is truncated: {room:,} of {reached:,} bytes of tensors")
    if reached < room:
        raise corrupt(f"with {room - reached:,} bytes behind its last tensor, where none may be")
