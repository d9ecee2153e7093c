"""ONNX's TensorProto: shape, dtype and where the values lie, in the file itself or in one beside it."""

from __future__ import annotations

from functools import partial
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.read.identity import FileIdentity, check_regular, identity_of, unreadable
from ckptaudit.read.links import leaves
from ckptaudit.read.protobuf import FIXED32, FIXED64, signed, spans, varint
from ckptaudit.read.source import opened
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides, numpy_dtype
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckptaudit.read.source import Source

_MAX_RANK = 254
_MAX_DIMS = 1000 * _MAX_RANK + 10  # bytes that more dimensions than are read take at least
_MAX_NAME = 1 << 16
_MAX_ENTRIES = 100  # of external data: the format knows four

_DTYPES = MappingProxyType(
    {
        1: "float32",
        2: "uint8",
        3: "int8",
        4: "uint16",
        5: "int16",
        6: "int32",
        7: "int64",
        8: "string",
        9: "bool",
        10: "float16",
        11: "float64",
        12: "uint32",
        13: "uint64",
        14: "complex64",
        15: "complex128",
        16: "bfloat16",
        17: "float8_e4m3fn",
        18: "float8_e4m3fnuz",
        19: "float8_e5m2",
        20: "float8_e5m2fnuz",
        24: "float8_e8m0fnu",
    }
)
#: dtypes that are packed several to a byte and whose values are not decoded, with their bits.
_PACKED = MappingProxyType({21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1fn", 4), 25: ("uint2", 2), 26: ("int2", 2)})

_FLOATS, _INTS, _STRINGS, _LONGS, _DOUBLES, _UNSIGNED = 4, 5, 6, 7, 10, 11
#: The typed field that holds values of a dtype; every other goes into ``int32_data``.
_FIELD_OF = MappingProxyType(
    {
        "float32": _FLOATS,
        "complex64": _FLOATS,
        "string": _STRINGS,
        "int64": _LONGS,
        "float64": _DOUBLES,
        "complex128": _DOUBLES,
        "uint32": _UNSIGNED,
        "uint64": _UNSIGNED,
    }
)
_TYPED = MappingProxyType(
    {
        _FLOATS: "float_data",
        _INTS: "int32_data",
        _STRINGS: "string_data",
        _LONGS: "int64_data",
        _DOUBLES: "double_data",
        _UNSIGNED: "uint64_data",
    }
)
_NOT_LAST = bytes(range(128, 256))  # bytes of a number that goes on
_COUNTED = 1 << 20  # bytes that are looked at together


@dataclass(slots=True)
class _Message:
    """The fields of one TensorProto as they are."""

    dims: list[int] = field(default_factory=list)
    dtype: int = 0
    name: str = ""
    raw: slice | None = None
    typed: dict[int, list[slice]] = field(default_factory=dict)
    strings: int = 0
    external: dict[str, str] = field(default_factory=dict)
    elsewhere: bool = False
    segment: bool = False


class TensorProtos:
    """Reads the TensorProtos of one file.

    Attributes
    ----------
    lost:
        Files with values that are missing, by name, each with the number of tensors that it should hold.
    outside:
        Files beside the model that hold values, by name, each with the number of bytes that belong to tensors.
    segments:
        How many tensors claim to be parts of others, which no reader puts together.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._files: dict[str, tuple[Path, int, FileIdentity] | None] = {}
        self.lost: dict[str, int] = {}
        self.outside: dict[str, int] = {}
        self.segments = 0

    def corrupt(self, reason: str) -> CorruptCheckpointError:
        """The error that refuses the file."""
        return CorruptCheckpointError(self._source.path, f"an ONNX model {reason}")

    def read(self, span: slice, name: str = "") -> tuple[str, StoredTensor]:
        """Name and place of the tensor at ``span``; ``name`` is what it is called where it has no name of its own.

        Raises
        ------
        CorruptCheckpointError
            Its shape, dtype and values contradict each other, or its values would lie outside the model's folder.
        """
        message = self._parse(span)
        name = message.name or name

        def bad(reason: str) -> CorruptCheckpointError:
            return self.corrupt(f"whose tensor {name!r} {reason}")

        if len(message.dims) > _MAX_RANK:
            raise bad(f"has {len(message.dims):,} dimensions")
        if any(size < 0 for size in message.dims):
            raise bad(f"has the negative size {min(message.dims)}")
        shape = tuple(message.dims)
        if prod(shape) >= 2**62:
            raise bad(f"claims the impossible shape {list(shape)[:8]}")
        dtype, bits = _PACKED.get(message.dtype) or (_DTYPES.get(message.dtype, ""), 0)
        if not dtype:
            raise bad(f"has the unknown dtype {message.dtype}")
        nbytes = (prod(shape) * (bits or DTYPE_BITS[dtype]) + 7) // 8
        self.segments += message.segment
        storage = self._storage(message, name, dtype, shape, nbytes, bad)
        return name, StoredTensor(shape, contiguous_strides(shape), dtype, 0, storage)

    def _parse(self, span: slice) -> _Message:
        data, found = self._source.data, _Message()

        def bad(reason: str) -> CorruptCheckpointError:
            return self.corrupt(f"with a tensor{f' {found.name!r}' if found.name else ''} that {reason}")

        for number, wire, value in spans(data, span.start, span.stop, bad):
            if number == 1:
                packed = b"" if isinstance(value, int) else data[value.start : min(value.stop, value.start + _MAX_DIMS)]
                found.dims += [signed(value)] if isinstance(value, int) else _numbers(packed, bad)
                if len(found.dims) > 100 * _MAX_RANK:
                    raise bad(f"has more than {100 * _MAX_RANK:,} dimensions")
            elif number == 2 and isinstance(value, int):
                found.dtype = value
            elif number == 8 and isinstance(value, slice):
                found.name = text(data, value, bad)
            elif number == 9 and isinstance(value, slice):
                found.raw = value
            elif number == _STRINGS:
                found.strings += 1
            elif number in _TYPED:
                # A lone number (not packed) is kept by its place, too: it ends where the field ends.
                if isinstance(value, int) and wire in (FIXED32, FIXED64):
                    raise bad(f"has {_TYPED[number]} that is not packed, which is not read")
                found.typed.setdefault(number, []).append(value if isinstance(value, slice) else _lone(value))
            elif number == 13 and isinstance(value, slice):
                key, content = entry(data, value, bad)
                if key in found.external or len(found.external) > _MAX_ENTRIES:
                    raise bad(f"names its external {key!r} twice")
                found.external[key] = content
            elif number == 14 and isinstance(value, int):
                found.elsewhere = value == 1
            elif number == 3:
                found.segment = True
        return found

    def _storage(
        self, message: _Message, name: str, dtype: str, shape: tuple[int, ...], nbytes: int, bad: Callable[[str], CorruptCheckpointError]
    ) -> Storage:
        path = self._source.path
        why = "" if dtype in DTYPE_BITS and dtype != "string" else f"values of dtype {dtype} are not decoded"
        held = (
            [_TYPED[number] for number in message.typed]
            + ["raw_data"] * (message.raw is not None)
            + ["string_data"] * (message.strings > 0)
        )
        if message.elsewhere:
            if held:
                raise bad(f"has both {held[0]} and external data")
            return self._external(message, name, nbytes, why, bad)
        if len(held) > 1:
            raise bad(f"has both {held[0]} and {held[1]}: readers disagree on which of the two counts")
        # The place in the file is the key: two tensors never share it, whatever they are called.
        if message.raw is not None:
            if dtype == "string":
                raise bad("holds texts as raw data")
            size = message.raw.stop - message.raw.start
            if size != nbytes:
                raise bad(f"of shape {list(shape)} and dtype {dtype} has {size:,} bytes where {nbytes:,} should be")
            return Storage(str(message.raw.start), path, message.raw.start, nbytes, why)
        if dtype == "string":
            if message.strings != prod(shape) or message.typed:
                raise bad(f"of shape {list(shape)} holds {message.strings:,} texts")
            return Storage(name, path, 0, 0, why)
        wanted = _FIELD_OF.get(dtype, _INTS)
        if message.strings or any(number != wanted for number in message.typed):
            raise bad(f"of dtype {dtype} has its values in {held[0]}")
        return self._typed(message.typed.get(wanted, []), wanted, dtype, shape, nbytes, why, bad)

    def _typed(
        self,
        runs: list[slice],
        number: int,
        dtype: str,
        shape: tuple[int, ...],
        nbytes: int,
        why: str,
        bad: Callable[[str], CorruptCheckpointError],
    ) -> Storage:
        path, data = self._source.path, self._source.data
        key = str(runs[0].start) if runs else f"empty-{dtype}"
        if number in (_FLOATS, _DOUBLES):
            size = sum(run.stop - run.start for run in runs)
            if size != nbytes:
                raise bad(f"of shape {list(shape)} and dtype {dtype} has {size:,} bytes where {nbytes:,} should be")
            if len(runs) <= 1:
                return Storage(key, path, runs[0].start if runs else 0, nbytes, why)
            return Storage(key, path, 0, nbytes, why, False, partial(_joined, path, tuple(runs)))
        count = 0
        for run in runs:
            if run.step is not None:
                count += 1
            elif run.stop > run.start:
                if data[run.stop - 1] >= 0x80:
                    raise bad("ends within a number")
                pieces = range(run.start, run.stop, _COUNTED)
                count += sum(len(data[at : min(at + _COUNTED, run.stop)].translate(None, _NOT_LAST)) for at in pieces)
        elements = prod(shape)
        packed = next((bits for word, bits in _PACKED.values() if word == dtype), 8)
        if count != (elements * packed + 7) // 8:
            raise bad(f"of shape {list(shape)} and dtype {dtype} has {count:,} values where {elements:,} should be")
        return Storage(key, path, 0, nbytes, why, False, partial(_decoded, path, tuple(runs), dtype))

    def _external(self, message: _Message, name: str, nbytes: int, why: str, bad: Callable[[str], CorruptCheckpointError]) -> Storage:
        location = message.external.get("location", "")
        if not location:
            raise bad("has external data without a location")
        offset, length = (_position(message.external, key, bad) for key in ("offset", "length"))
        found = self._beside(location, bad)
        if found is None:
            self.lost[location] = self.lost.get(location, 0) + 1
            return Storage(name, self._source.path, 0, nbytes, why or f"the external file {location!r} is missing")
        path, size, identity = found
        first = offset or 0
        if length is not None and length != nbytes:
            raise bad(f"has {length:,} bytes of external data where {nbytes:,} should be")
        if first + nbytes > size:
            raise bad(f"reaches to byte {first + nbytes:,} of {location!r}, which has {size:,}")
        self.outside[location] = self.outside.get(location, 0) + nbytes
        return Storage(f"{location}:{first}:{nbytes}", path, first, nbytes, why, file=identity)

    def _beside(self, location: str, bad: Callable[[str], CorruptCheckpointError]) -> tuple[Path, int, FileIdentity] | None:
        """The file at ``location``, which must lie in the model's own folder; None when there is none."""
        if location in self._files:
            return self._files[location]
        folder = self._source.path.parent
        parts = location.removeprefix("./").split("/")
        if set(location) & set("\\:\0") or any(part in ("", ".", "..") or part != part.strip() for part in parts):
            raise bad(f"has its values at {location!r}, which is no name within the model's own folder")
        path = folder.joinpath(*parts)
        try:
            if leaves(path, folder):
                raise bad(f"has its values at {location!r}, a symbolic link that leaves the model's folder")
            status = path.stat()
            check_regular(path, status.st_mode)
            if path.samefile(self._source.path):
                raise bad("has its values in the model itself, as external data")
        except FileNotFoundError:
            self._files[location] = None
            return None
        except CheckpointError as error:
            raise error if error.path == self._source.path else bad(f"has its values at {location!r}: {error.reason}") from None
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
            reason = unreadable(error) if isinstance(error, (OSError, ValueError)) else "links that lead in a circle"
            raise bad(f"has its values at {location!r}: {reason}") from None
        self._files[location] = (path, status.st_size, identity_of(path))
        return self._files[location]


def text(data: Any, span: slice, bad: Callable[[str], Exception]) -> str:
    """A name; bytes that are no UTF-8 keep their values as surrogates."""
    if span.stop - span.start > _MAX_NAME:
        raise bad(f"has a name of {span.stop - span.start:,} bytes")
    return str(data[span], "utf-8", "surrogateescape")


def dtype_of(number: int) -> str:
    """The dtype that a ``TensorProto.DataType`` means; ``""`` for one that is not known."""
    return _DTYPES.get(number) or _PACKED.get(number, ("", 0))[0]


def entry(data: Any, span: slice, bad: Callable[[str], Exception]) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    key = value = ""
    for number, _, content in spans(data, span.start, span.stop, bad):
        if isinstance(content, slice):
            if number == 1:
                key = text(data, content, bad)
            elif number == 2:
                value = text(data, slice(content.start, min(content.stop, content.start + _MAX_NAME)), bad)
    return key, value


def _position(external: Mapping[str, str], key: str, bad: Callable[[str], Exception]) -> int | None:
    told = external.get(key)
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) < 19):
        raise bad(f"has the external {key} {told[:40]!r}, which is no position")
    return int(told)


def _numbers(content: bytes, bad: Callable[[str], Exception]) -> list[int]:
    found, position = [], 0
    while position < len(content):
        value, position = varint(content, position, bad)
        found.append(signed(value))
        if len(found) > 100 * _MAX_RANK:
            raise bad(f"has more than {100 * _MAX_RANK:,} dimensions")
    return found


def _lone(value: int) -> slice:
    """A number that stands by itself, told from a place by its step."""
    return slice(value, value, 1)


def _joined(path: Path, runs: tuple[slice, ...]) -> bytes:
    with opened(path, 0) as source:
        return b"".join(source.data[run] for run in runs)


def _decoded(path: Path, runs: tuple[slice, ...], dtype: str) -> bytes:
    """Values of ``int32_data``, ``int64_data`` or ``uint64_data``; small floats are stored as the integers that their bits are."""
    import numpy

    pieces = []
    with opened(path, 0) as source:
        for run in runs:
            if run.step is not None:
                pieces.append(numpy.array([run.start], "u8"))
                continue
            content = numpy.frombuffer(source.data[run], "u1")
            ends = numpy.flatnonzero(content < 0x80)
            starts = numpy.concatenate(([0], ends[:-1] + 1))[: len(ends)]
            values = numpy.zeros(len(ends), "u8")
            for position in range(10):  # bytes that a number of 64 bits takes at most
                within = starts + position <= ends
                digits = content[starts[within] + position].astype("u8") & 0x7F
                values[within] |= digits << numpy.uint64(7 * position)
            pieces.append(values)
    whole = numpy.concatenate(pieces) if pieces else numpy.zeros(0, "u8")
    narrow = whole.astype(f"u{numpy_dtype(dtype).itemsize}")
    return narrow.tobytes()
