"""The tensors of a file to be: known in shape and size before a value is read, then copied one by one.

Tensors that only get another name are copied by the system from file to file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from io import FileIO
from math import prod
from typing import TYPE_CHECKING, BinaryIO

from ckptaudit._version import __version__
from ckptaudit.align.ops import shape_after
from ckptaudit.errors import CorruptCheckpointError, PlanError, ValuesUnavailableError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.plan.applying import refuse_undecoded, step_result
from ckptaudit.plan.plan import Plan, Step
from ckptaudit.read.stored import contiguous_strides
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint
    from ckptaudit.read.stored import StoredTensor

_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file to be."""

    step: Step
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def entries_of(plan: Plan, checkpoint: Checkpoint, dtypes: Collection[str], form: str) -> list[Entry]:
    """One entry per step, in the plan's order.

    Raises
    ------
    PlanError
        A step does not fit its tensors, needs the model's initial values, or the form has no such dtype.
    """
    tensors = checkpoint.branch.tensors
    entries = []
    for step in plan.steps:
        dtype = tensors[step.sources[0]].dtype
        try:
            refuse_undecoded(dtype)
            if dtype not in dtypes:
                raise PlanError(f"{form} has no dtype {dtype}")
            if any(getattr(op, "needs_initial", False) for op in step.ops):
                raise PlanError("keeps rows of the model's initial values, which only Plan.apply(…, initial=…) can give")
            shape = shape_after(step.ops, [tensors[name].shape for name in step.sources])
        except PlanError as error:
            raise PlanError(f"{step.target}: {error}") from None
        entries.append(Entry(step, shape, dtype))
    return entries


def provenance(plan: Plan, checkpoint: Checkpoint) -> dict[str, str]:
    """What an output says of where it comes from."""
    told = {
        "format": "pt",
        "tool": "ckptaudit",
        "tool_version": __version__,
        "source": checkpoint.path.name.encode("utf-8", "backslashreplace").decode("utf-8"),
        "plan": plan.fingerprint,
    }
    if checkpoint.branch.name:
        told["source_branch"] = checkpoint.branch.name
    if plan.target is not None and plan.target.name:
        told["target"] = plan.target.name
    return told


def copied(entries: Iterable[Entry], checkpoint: Checkpoint, file: BinaryIO) -> Iterator[int]:
    """Write the tensors one after the other; yields the bytes written, piece by piece. While one is written the next is computed."""
    for entry, data in _ahead(entries, checkpoint):
        if data is None:
            yield from _copied_bytes(checkpoint.branch.tensors[entry.step.sources[0]], entry.nbytes, file)
        else:
            _append(data, file)
            yield entry.nbytes


def _ahead(entries: Iterable[Entry], checkpoint: Checkpoint) -> Iterator[tuple[Entry, memoryview | None]]:
    """Each entry with its values, or None where these are copied as they lie; those of one more are under way."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[Entry, Future[memoryview] | None]] = deque()
        for entry in entries:
            plain = _is_copied(entry, checkpoint)
            waiting.append((entry, None if plain else pool.submit(copy_context().run, _computed, entry, checkpoint)))
            if len(waiting) > 1:
                ready, values = waiting.popleft()
                yield ready, None if values is None else values.result()
        for ready, values in waiting:
            yield ready, None if values is None else values.result()


def pieces(entry: Entry, checkpoint: Checkpoint) -> Iterator[bytes | memoryview]:
    """The bytes of one tensor, for formats that have to look at them."""
    tensor = checkpoint.branch.tensors[entry.step.sources[0]]
    if not _is_copied(entry, checkpoint):
        yield _computed(entry, checkpoint)
        return
    with _opened(tensor, entry.nbytes) as source:
        left = entry.nbytes
        while left:
            data = source.read(min(left, _CHUNK))
            if not data:
                raise _short(tensor, entry.nbytes - left)
            left -= len(data)
            yield data


def _is_copied(entry: Entry, checkpoint: Checkpoint) -> bool:
    tensor = checkpoint.branch.tensors[entry.step.sources[0]]
    return not entry.step.ops and tensor.strides == contiguous_strides(tensor.shape) and not tensor.storage.big_endian


def _computed(entry: Entry, checkpoint: Checkpoint) -> memoryview:
    values = step_result(entry.step, checkpoint)
    if values.shape != entry.shape or values.nbytes != entry.nbytes:
        raise PlanError(f"{entry.step.target}: gave {values.shape} {values.dtype} where {entry.shape} {entry.dtype} was announced")
    return values.reshape(-1).view("uint8").data


def _copied_bytes(tensor: StoredTensor, nbytes: int, file: BinaryIO) -> Iterator[int]:
    with _opened(tensor, nbytes) as source:
        at, left = source.tell(), nbytes
        while left:
            count = _move(source, at, min(left, _CHUNK), file)
            if not count:
                raise _short(tensor, nbytes - left)
            at, left = at + count, left - count
            yield count


def _opened(tensor: StoredTensor, nbytes: int) -> FileIO:
    """The file at the place where the tensor's values begin."""
    storage = tensor.storage
    first = tensor.offset * DTYPE_BITS[tensor.dtype] // 8
    if storage.unavailable and nbytes:
        raise ValuesUnavailableError(storage.path, storage.unavailable)
    if first + nbytes > storage.nbytes:
        raise CorruptCheckpointError(storage.path, f"a tensor reaches {first + nbytes:,} bytes into a storage of {storage.nbytes:,}")
    source = os.fdopen(storage.file.open(), "rb", buffering=0)
    source.seek(storage.offset + first)
    return source


def _short(tensor: StoredTensor, done: int) -> CorruptCheckpointError:
    storage = tensor.storage
    place = storage.offset + tensor.offset * DTYPE_BITS[tensor.dtype] // 8 + done
    return CorruptCheckpointError(storage.path, f"ends before byte {place:,}, where a tensor's values should be")


def _move(source: FileIO, at: int, count: int, file: BinaryIO) -> int:
    """Append up to ``count`` bytes to ``file``, from file to file within the system where it can do that."""
    try:
        return os.copy_file_range(source.fileno(), file.fileno(), count, at)
    except (AttributeError, OSError):  # another system, or two file systems between which it cannot
        source.seek(at)
        data = source.read(count)
        _append(memoryview(data), file)
        return len(data)


def _append(data: memoryview, file: BinaryIO) -> None:
    """Write past Python's buffer, which cuts what it is given into small pieces: that takes several times as long."""
    file.flush()
    while data:
        data = data[os.write(file.fileno(), data) :]
