"""TensorFlow's checkpoint: an index (a table of names, shapes and places) beside shards of raw values.

Names are TensorFlow's own. A TF1 checkpoint holds nothing else; a TF2 checkpoint files values under the path of an object
(``layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE``) and tells TensorFlow's name (``conv1/kernel``) in its object graph. That
name is taken where it is there and tells all variables apart, else the path without its ending.

Order: that of the objects in the graph; without a graph the natural order of names, for a table is sorted and tells no other.
"""

from __future__ import annotations

import re
from functools import partial
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.graph.names import leaf, natural, parent
from ckptaudit.read import sstable, tf_objects
from ckptaudit.read.checkpoint import Branch, Checkpoint, Remark
from ckptaudit.read.links import leaves
from ckptaudit.read.protobuf import fields, numbers, signed, varint
from ckptaudit.read.source import check_regular, opened
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides, numpy_dtype
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ckptaudit.read.source import Source

NAME = "tf-bundle"

_MAX_SHARDS = 10_000
_MAX_RANK = 254  # TensorFlow's own limit
_MAX_GRAPH = 64 << 20
_MAX_SLICES = 10_000
_MAX_ASSEMBLED = 8 << 30
_DTYPES = MappingProxyType(
    {
        1: "float32",
        2: "float64",
        3: "int32",
        4: "uint8",
        5: "int16",
        6: "int8",
        7: "string",
        8: "complex64",
        9: "int64",
        10: "bool",
        11: "qint8",
        12: "quint8",
        13: "qint32",
        14: "bfloat16",
        17: "uint16",
        18: "complex128",
        19: "float16",
        22: "uint32",
        23: "uint64",
        24: "float8_e5m2",
        25: "float8_e4m3fn",
    }
)
#: dtypes that TensorFlow has and nobody here decodes, with the bytes of one element (0 where that is not fixed).
_OTHER_DTYPES = MappingProxyType({15: ("qint16", 2), 16: ("quint16", 2), 20: ("resource", 0), 21: ("variant", 0)})

#: Expressions, compiled when they are asked for.
_SLOT_WORDS = (
    r"(Momentum|Adam|AdaMax|Nadam|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|LARS\w*|LAMB\w*|adam_[mv]|vr|vc|v)(_\d+)?\Z|\.OPTIMIZER_SLOT\Z"
)
_CERTAIN_SLOTS = r"(Momentum|Adam|RMSProp|Adagrad|Adadelta|Ftrl|adam_[mv])(_\d+)?\Z"
_AVERAGE = r"(ExponentialMovingAverage|EMA|moving_average|average)(_\d+)?\Z"
_POWERS = r"(beta\d_power|learning_rate|loss_scale|good_steps|current_loss_scale)(_\d+)?\Z"
_STEPS = r"(global_step|save_counter|seed_generator_state)(_\d+)?\Z"


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the index says of one tensor."""

    name: str
    key: bytes
    shape: tuple[int, ...]
    dtype: str
    shard: int
    offset: int
    size: int
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_BITS.get(self.dtype, 0) // 8


@dataclass(frozen=True, slots=True)
class _Header:
    shards: int
    big_endian: bool


def read_bundle(source: Source) -> Checkpoint:
    """Read the index, and of the shards only sizes and the object graph."""
    path = source.path

    def corrupt(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(path, f"a TensorFlow checkpoint whose index {reason}")

    header: _Header | None = None
    entries: dict[bytes, _Entry] = {}
    remarks: list[str] = []
    for key, value in sstable.entries(source.data, source.max_header, corrupt):
        if header is None:
            if key:
                raise corrupt("has no header")
            header = _header(value, corrupt)
        elif key in entries:
            raise corrupt(f"has the key {_text(key)!r} twice")
        else:
            entries[key] = _entry(key, value, header, corrupt)
    if header is None:
        raise corrupt("has no header")
    shards = _Shards(path, header, remarks)
    tensors: dict[str, StoredTensor] = {}
    for entry in entries.values():
        if entry.key[:1] != b"\x00":  # the others are slices of a partitioned variable
            tensors[entry.name] = shards.tensor(entry, entries, corrupt)
    shards.tell_missing()
    _tell_overlaps(entries, remarks)
    graph = tensors.pop(tf_objects.KEY, None)
    told: dict[str, tf_objects.Variable] = {}
    if graph is not None:
        told = _object_graph(graph, entries[tf_objects.KEY.encode()], remarks)
    branches = _branches_by_graph(tensors, told) if told else _branches_by_name(tensors)
    main = next((branch for branch in branches if branch.role == "model"), branches[0])
    metadata: dict[str, Any] = {"shards": header.shards, "names": "object graph" if told else "variable names"}
    metadata.update(_steps(tensors))
    apart = ", ".join(repr(branch.name) for branch in branches if branch is not main)
    reason = f"the variables themselves; {apart} stand apart" if apart else "the only branch"
    nbytes = source.size + shards.nbytes
    return Checkpoint(path, NAME, "tensorflow", main, reason, tuple(branches), MappingProxyType(metadata), (), nbytes, tuple(remarks))


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _header(value: bytes, corrupt: Callable[[str], Exception]) -> _Header:
    def bad(reason: str) -> Exception:
        return corrupt(f"has a header that {reason}")

    told = numbers(value, frozenset({1, 2}), bad)
    shards, endianness = signed(told.get(1, 0)), told.get(2, 0)
    if not 0 <= shards <= _MAX_SHARDS:
        raise bad(f"claims {shards:,} shards")
    if endianness not in (0, 1):
        raise bad(f"claims the unknown byte order {endianness}")
    return _Header(shards, endianness == 1)


def _entry(key: bytes, value: bytes, header: _Header, corrupt: Callable[[str], Exception]) -> _Entry:
    name = _text(key)

    def bad(reason: str) -> Exception:
        return corrupt(f"has an entry for {name!r} that {reason}")

    told: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    slices: list[tuple[tuple[int, int], ...]] = []
    for number, _, content in fields(value, bad):
        if number == 2 and isinstance(content, bytes):
            shape = _shape(content, bad)
        elif number == 7 and isinstance(content, bytes):
            slices.append(_slice(content, bad))
            if len(slices) > _MAX_SLICES:
                raise bad(f"has more than {_MAX_SLICES:,} slices")
        elif isinstance(content, int):
            told[number] = content
    kind, shard, offset, size = told.get(1, 0), signed(told.get(3, 0)), signed(told.get(4, 0)), signed(told.get(5, 0))
    dtype = _DTYPES.get(kind) or _OTHER_DTYPES.get(kind, ("", 0))[0]
    if not dtype:
        raise bad(f"has the unknown dtype {kind}")
    if prod(shape) >= 2**63:
        raise bad(f"claims the impossible shape {list(shape)[:8]}")
    if not slices:
        if not 0 <= shard < max(1, header.shards):
            raise bad(f"lies in shard {shard:,} of {header.shards:,}")
        if offset < 0 or size < 0 or offset + size >= 2**63:
            raise bad(f"lies at bytes {offset:,} to {offset + size:,}, where nothing can lie")
        width = DTYPE_BITS[dtype] // 8 if dtype in DTYPE_BITS else _OTHER_DTYPES[kind][1]
        if width and prod(shape) * width != size:
            raise bad(f"has {size:,} bytes for the shape {list(shape)[:8]} of {dtype}")
    return _Entry(name, key, shape, dtype, shard, offset, size, tuple(slices))


def _shape(message: bytes, bad: Callable[[str], Exception]) -> tuple[int, ...]:
    sizes: list[int] = []
    for number, _, content in fields(message, bad):
        if number == 2 and isinstance(content, bytes):
            size = signed(numbers(content, frozenset({1}), bad).get(1, 0))
            if size < 0:
                raise bad(f"has the negative size {size}")
            sizes.append(size)
            if len(sizes) > _MAX_RANK:
                raise bad(f"has more than {_MAX_RANK} dimensions")
        elif number == 3 and content:
            raise bad("has no known rank")
    return tuple(sizes)


def _slice(message: bytes, bad: Callable[[str], Exception]) -> tuple[tuple[int, int], ...]:
    """Start and length in each dimension; length -1 means all of it."""
    extents: list[tuple[int, int]] = []
    for number, _, content in fields(message, bad):
        if number == 1 and isinstance(content, bytes):
            told = numbers(content, frozenset({1, 2}), bad)
            extents.append((signed(told.get(1, 0)), signed(told[2]) if 2 in told else -1))
            if len(extents) > _MAX_RANK:
                raise bad(f"has more than {_MAX_RANK} dimensions")
    return tuple(extents)


class _Shards:
    """The files beside the index: which are there, and how large they are. None is opened here."""

    def __init__(self, index: Path, header: _Header, remarks: list[str]) -> None:
        self._index = index
        self._header = header
        self._remarks = remarks
        self._known: dict[int, tuple[Path, int, str]] = {}
        self._lost: dict[str, int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all shards that were looked at."""
        return sum(max(0, size) for _, size, _ in self._known.values())

    def tensor(self, entry: _Entry, entries: Mapping[bytes, _Entry], corrupt: Callable[[str], Exception]) -> StoredTensor:
        """A tensor with its place, or with the reason why it has none."""
        if entry.slices:
            storage = self._partitioned(entry, entries, corrupt)
        else:
            storage = self._storage(entry, corrupt)
            if entry.dtype not in DTYPE_BITS or entry.dtype == "string":
                storage = replace(storage, unavailable=storage.unavailable or f"values of dtype {entry.dtype} are not decoded")
        return StoredTensor(entry.shape, contiguous_strides(entry.shape), entry.dtype, 0, storage)

    def tell_missing(self) -> None:
        """One remark for each shard without values."""
        self._remarks += [
            Remark(f"{why}: names and shapes of {count:,} tensors are known, their values are not", "missing-values")
            for why, count in self._lost.items()
        ]

    def _storage(self, entry: _Entry, corrupt: Callable[[str], Exception]) -> Storage:
        path, size, why = self._shard(entry.shard)
        if why:
            self._lost[why] = self._lost.get(why, 0) + 1
        elif entry.offset + entry.size > size:
            raise CorruptCheckpointError(
                self._index,
                f"a TensorFlow checkpoint that is truncated: {entry.name!r} reaches to byte {entry.offset + entry.size:,} of {path.name}, "
                f"which has {size:,}",
            )
        return Storage(entry.name, path, entry.offset, entry.size, why, self._header.big_endian)

    def _shard(self, number: int) -> tuple[Path, int, str]:
        """Path, size and, where it cannot be read, the reason."""
        if number not in self._known:
            name = f"{self._index.name.removesuffix('.index')}.data-{number:05}-of-{self._header.shards:05}"
            path = self._index.parent / name
            why, size = "", -1
            try:
                status = path.stat()
                check_regular(path, status.st_mode)
                size = status.st_size
                if leaves(path, self._index.parent):
                    # Links are how people share large files, so they are followed; whoever planted one is told of.
                    self._remarks.append(Remark(f"shard {name!r} is a symbolic link that leaves the folder", "outside-file"))
            except FileNotFoundError:
                why = f"the data shard {name!r} is missing"
            except CkptAuditError:
                why = f"the data shard {name!r} is no regular file"
            except OSError as error:
                why = f"the data shard {name!r} cannot be read ({(error.strerror or 'unknown').lower()})"
            self._known[number] = (path, size, why)
        return self._known[number]

    def _partitioned(self, entry: _Entry, entries: Mapping[bytes, _Entry], corrupt: Callable[[str], Exception]) -> Storage:
        parts: list[tuple[tuple[tuple[int, int], ...], StoredTensor]] = []
        covered, why = 0, ""
        for extents in entry.slices:
            if len(extents) != len(entry.shape):
                raise corrupt(f"has a slice of {entry.name!r} of another rank")
            whole = [(start, size - start if length < 0 else length) for (start, length), size in zip(extents, entry.shape, strict=True)]
            if any(start < 0 or length < 0 or start + length > size for (start, length), size in zip(whole, entry.shape, strict=True)):
                raise corrupt(f"has a slice of {entry.name!r} that reaches past its shape {list(entry.shape)}")
            held = entries.get(_slice_key(entry.key, extents))
            if held is None or held.slices:
                raise corrupt(f"lacks a slice of {entry.name!r}")
            if held.shape != tuple(length for _, length in whole) or held.dtype != entry.dtype:
                raise corrupt(f"has a slice of {entry.name!r} of another shape or dtype than it declares")
            part = self.tensor(held, entries, corrupt)
            why = why or part.storage.unavailable
            covered += prod(held.shape)
            parts.append((tuple(whole), part))
        if covered != prod(entry.shape):
            raise corrupt(f"has slices of {entry.name!r} that do not make up its shape {list(entry.shape)}")
        if entry.nbytes > _MAX_ASSEMBLED:
            why = why or f"{entry.nbytes:,} bytes in slices are not put together"
        # The parts are little endian once they are read.
        return Storage(entry.name, self._index, 0, entry.nbytes, why, False, partial(_assembled, entry, tuple(parts)))


def _assembled(entry: _Entry, parts: tuple[tuple[tuple[tuple[int, int], ...], StoredTensor], ...]) -> bytes:
    import numpy

    whole = numpy.zeros(entry.shape, numpy_dtype(entry.dtype))
    for extents, part in parts:
        whole[tuple(slice(start, start + length) for start, length in extents)] = part.read()
    return whole.tobytes()


def _slice_key(name: bytes, extents: tuple[tuple[int, int], ...]) -> bytes:
    """The key under which a slice is filed: TensorFlow's ordered code of 0, the name, the rank, and start and length of each dimension."""
    key = b"\x00" + name.replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff") + b"\x00\x01"
    rank = len(extents)
    key += bytes((rank.bit_length() + 7 >> 3,)) + rank.to_bytes(rank.bit_length() + 7 >> 3, "big")
    return key + b"".join(_ordered(number) for extent in extents for number in extent)


def _ordered(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    header = (1 << 16) - (1 << 16 - length)  # as many ones from the top as there are bytes
    digits = bytearray(value.to_bytes(10, "big", signed=True)[-max(2, length) :])
    digits[0] ^= header >> 8
    digits[1] ^= header & 0xFF
    return bytes((0x80 ^ value & 0xFF,)) if length == 1 else bytes(digits)


def _tell_overlaps(entries: Mapping[bytes, _Entry], remarks: list[str]) -> None:
    reached, before, count = (-1, 0), "", 0
    first = ""
    for entry in sorted((e for e in entries.values() if e.size and not e.slices), key=lambda e: (e.shard, e.offset)):
        if entry.shard == reached[0] and entry.offset < reached[1]:
            first = first or f"{before!r} and {entry.name!r}"
            count += 1
        if (entry.shard, entry.offset + entry.size) > reached:
            reached, before = (entry.shard, entry.offset + entry.size), entry.name
    if count:
        remarks.append(Remark(f"{count:,} tensors overlap others in the data, the first {first}", "overlapping-storage"))


def _object_graph(graph: StoredTensor, entry: _Entry, remarks: list[str]) -> dict[str, tf_objects.Variable]:
    """The object graph, a string tensor: the length of its one element, a checksum of that, and the element."""
    storage = graph.storage
    if entry.shape or entry.dtype != "string":
        remarks.append("the object graph is no text; variables are named by their keys")
        return {}
    if entry.size > _MAX_GRAPH:
        remarks.append(f"an object graph of {entry.size:,} bytes is not read; variables are named by their keys")
        return {}

    class _Unusable(Exception):  # noqa: N818 - never leaves this function
        pass

    try:
        with opened(storage.path, 0) as shard:
            content = bytes(shard.data[storage.offset : storage.offset + storage.nbytes])
        length, position = varint(content, 0, _Unusable)
        if position + 4 + length != len(content):
            raise _Unusable("has not the length that it declares")
        return tf_objects.variables(content[position + 4 :], _Unusable)
    except CkptAuditError:
        remarks.append("the object graph lies in a shard that cannot be read; variables are named by their keys")
    except _Unusable as error:
        remarks.append(f"the object graph {error}; variables are named by their keys")
    return {}


def _branches_by_graph(tensors: Mapping[str, StoredTensor], told: Mapping[str, tf_objects.Variable]) -> list[Branch]:
    """Branches of a TF2 checkpoint, in the order of the objects."""
    last = max((variable.position for variable in told.values()), default=0) + 1
    keys = sorted(tensors, key=lambda key: (told[key].position if key in told else last, natural(key)))
    model: dict[str, StoredTensor] = {}
    sorted_keys: dict[str, list[str]] = {"model": [], "optimizer": [], "ema": [], "state": []}
    for key in keys:
        sorted_keys[_part_of(key, tensors[key], told.get(key))].append(key)
    names, copies = _full_names(sorted_keys["model"], tensors, told)
    aside = set(copies)
    for key in sorted_keys["model"]:
        if key not in aside:
            model[names[key]] = tensors[key]
    optimizer: dict[str, StoredTensor] = {}
    for key in sorted_keys["optimizer"]:
        variable = told.get(key)
        slot = variable.slot_of if variable is not None else None
        name = f"{names.get(slot[0], _path(slot[0]))}/{slot[1]}" if slot is not None else variable.full_name if variable is not None else ""
        optimizer[name if name and name not in optimizer else _path(key)] = tensors[key]
    averages: dict[str, StoredTensor] = {}
    for key in sorted_keys["ema"]:
        variable = told.get(key)
        slot = variable.slot_of if variable is not None else None
        averages[names.get(slot[0], _path(slot[0])) if slot is not None else _path(key)] = tensors[key]
    state = {_path(key): tensors[key] for key in (*sorted_keys["state"], *copies)}
    return _named(model, optimizer, averages, state)


def _part_of(key: str, tensor: StoredTensor, variable: tf_objects.Variable | None) -> str:
    if not key.endswith(tf_objects.VALUE) or tensor.dtype not in DTYPE_BITS or tensor.dtype == "string":
        return "state"
    if variable is not None and variable.slot_of is not None:
        return "ema" if re.search(_AVERAGE, variable.slot_of[1]) else "optimizer"
    if "/.OPTIMIZER_SLOT/" in key or (variable is not None and variable.of_optimizer):
        return "optimizer"
    word = leaf(variable.full_name if variable is not None and variable.full_name else _path(key))
    return "state" if re.search(_STEPS, word) else "model"


def _path(key: str) -> str:
    return key.removesuffix(tf_objects.VALUE)


def _full_names(
    keys: list[str], tensors: Mapping[str, StoredTensor], told: Mapping[str, tf_objects.Variable]
) -> tuple[dict[str, str], list[str]]:
    """A name for each key of the model, and keys of second copies (an exported model keeps its variables in several lists)."""
    by_name: dict[str, list[str]] = {}
    for key in keys:
        by_name.setdefault(told[key].full_name if key in told else "", []).append(key)
    lists = {key.partition("/")[0] for key in keys}
    copies: list[str] = []
    for name, same in by_name.items():
        # The same name twice is a copy only where each stands in a list of its own.
        if not name or len({key.partition("/")[0] for key in same}) < len(same) or len({tensors[key].shape for key in same}) > 1:
            return {key: _path(key) for key in keys}, []
        copies += same[1:]
    if copies and len(lists) < 2:
        return {key: _path(key) for key in keys}, []
    return {key: name for name, same in by_name.items() for key in same}, copies


def _branches_by_name(tensors: Mapping[str, StoredTensor]) -> list[Branch]:
    """Branches of a TF1 checkpoint: slots and averages are filed below the name of their variable."""
    model: dict[str, StoredTensor] = {}
    optimizer: dict[str, StoredTensor] = {}
    averages: dict[str, StoredTensor] = {}
    state: dict[str, StoredTensor] = {}
    for name in sorted(tensors, key=natural):
        tensor, word, above = tensors[name], leaf(name), parent(name)
        owner = tensors.get(above) if above else None
        if re.fullmatch(_AVERAGE, word) and above:
            averages[above] = tensor
        elif (
            (re.fullmatch(_CERTAIN_SLOTS, word) and above)
            or (owner is not None and (re.fullmatch(_SLOT_WORDS, word) or owner.shape == tensor.shape))
            or (re.fullmatch(_POWERS, word) and not tensor.shape)
        ):
            optimizer[name] = tensor
        elif owner is not None or tensor.dtype == "string" or tensor.dtype not in DTYPE_BITS or re.fullmatch(_STEPS, word):
            state[name] = tensor
        else:
            model[name] = tensor
    return _named(model, optimizer, averages, state)


def _named(
    model: dict[str, StoredTensor], optimizer: dict[str, StoredTensor], averages: dict[str, StoredTensor], state: dict[str, StoredTensor]
) -> list[Branch]:
    several = bool(optimizer or averages or state)
    branches = [Branch("model" if several else "", "model", MappingProxyType(model))] if model or not several else []
    if averages:
        # Only what is trained is averaged: the rest (moving statistics) is shared, as `variables_to_restore` has it.
        whole = {name: averages.get(name, tensor) for name, tensor in model.items()}
        whole.update((name, tensor) for name, tensor in averages.items() if name not in whole)
        branches.append(Branch("ema", "ema" if model else "model", MappingProxyType(whole)))
    if optimizer:
        branches.append(Branch("optimizer", "optimizer", MappingProxyType(optimizer)))
    if state:
        branches.append(Branch("state", "other", MappingProxyType(state)))
    return branches


def _steps(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, int]]:
    """Counters of steps, as numbers: a few bytes, where they are there."""
    for name, tensor in tensors.items():
        word = leaf(_path(name))
        if word in ("global_step", "save_counter", "_iterations") and not tensor.shape and tensor.dtype in ("int64", "int32"):
            try:
                yield word.strip("_"), int(tensor.read())
            except CkptAuditError:
                continue
