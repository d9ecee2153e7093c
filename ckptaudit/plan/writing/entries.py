"""The tensors of a file to be: known in shape and size before a value is read, then read and laid out one by one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from io import FileIO
from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.align.ops import lay_out, shape_after
from ckptaudit.errors import CorruptCheckpointError, PlanError, ValuesUnavailableError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.plan.applying import step_values
from ckptaudit.plan.plan import Plan, Step, keeps_rows
from ckptaudit.plan.undecoded import refuse_undecoded
from ckptaudit.read.stored import numpy_dtype
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

    from ckptaudit.read import Checkpoint
    from ckptaudit.read.stored import StoredTensor

#: Bytes that are moved at a time.
CHUNK = 4 << 20
#: Rows that are laid out at a time at least, however long they are.
_ROWS = 64
#: Operations that give a view of what they are given.
_VIEWS = frozenset({"permute", "squeeze", "unsqueeze", "split", "slice"})


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
            if keeps_rows(step):
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


class Scratch:
    """Memory for the values on their way, used again and again: the system takes longer to give fresh memory than values to be laid out.

    What :meth:`read` gave lasts until it is called again, and so does a :meth:`piece`. Each thread has its own.
    """

    def __init__(self) -> None:
        import numpy

        self._source = numpy.empty(0, numpy.uint8)
        self._piece = self._source

    def read(self, tensor: StoredTensor) -> numpy.ndarray[Any, Any]:
        """The values of a tensor: see :meth:`StoredTensor.read`."""
        nbytes = nbytes_of(tensor)
        if not nbytes or not tensor.lies_as_it_is:
            return tensor.read()
        self._source = _of_size(self._source, nbytes)
        memory = self._source[:nbytes]
        tensor.read_into(memory.data)
        return memory.view(numpy_dtype(tensor.dtype)).reshape(tensor.shape)

    def piece(self, nbytes: int) -> numpy.ndarray[Any, Any]:
        """So many bytes to write to."""
        self._piece = _of_size(self._piece, nbytes)
        return self._piece[:nbytes]


def nbytes_of(tensor: StoredTensor) -> int:
    """Bytes of a tensor's values."""
    return prod(tensor.shape) * DTYPE_BITS[tensor.dtype] // 8


def _of_size(memory: numpy.ndarray[Any, Any], nbytes: int) -> numpy.ndarray[Any, Any]:
    import numpy

    return memory if len(memory) >= nbytes else numpy.empty(nbytes, numpy.uint8)


def pieces(entry: Entry, checkpoint: Checkpoint, scratch: Scratch, *, first: int = 0) -> Iterator[memoryview]:
    """The bytes of one tensor, of one that :func:`lies_as_wanted` from ``first`` on; each piece lasts until the next is asked for."""
    if not lies_as_wanted(entry, checkpoint):
        yield from _computed(entry, checkpoint, scratch)
        return
    tensor = checkpoint.branch.tensors[entry.step.sources[0]]
    with opened(tensor, entry.nbytes) as source:
        source.seek(first, os.SEEK_CUR)
        left = entry.nbytes - first
        while left:
            piece = scratch.piece(min(left, CHUNK)).data
            count = source.readinto(piece)
            if not count:
                raise short(tensor, source.tell())
            left -= count
            yield piece[:count]
        tensor.storage.file.confirm(source.fileno())


def lies_as_wanted(entry: Entry, checkpoint: Checkpoint) -> bool:
    """Whether the bytes of the tensor are those that lie in the file."""
    return not entry.step.ops and checkpoint.branch.tensors[entry.step.sources[0]].lies_as_it_is


def held(entry: Entry, checkpoint: Checkpoint) -> int:
    """Bytes that are in memory at once, about, while :func:`pieces` are taken of a tensor."""
    if lies_as_wanted(entry, checkpoint):
        return min(entry.nbytes, CHUNK)
    tensors = [checkpoint.branch.tensors[name] for name in entry.step.sources]
    read = sum(nbytes_of(tensor) * (1 if tensor.lies_as_it_is else 2) for tensor in tensors)  # what is unpacked is there packed, too
    made = 0 if all(op.name in _VIEWS for op in entry.step.ops) else 2 * entry.nbytes
    return read + made + min(entry.nbytes, max(CHUNK, _ROWS * entry.nbytes // max(1, (entry.shape or (1,))[0])))


def _computed(entry: Entry, checkpoint: Checkpoint, scratch: Scratch) -> Iterator[memoryview]:
    """The bytes of one tensor, laid out some rows at a time: what is written next is still in the cache."""
    values = step_values(entry.step, checkpoint, read=scratch.read)
    if values.shape != entry.shape or values.nbytes != entry.nbytes:
        raise PlanError(f"{entry.step.target}: gave {values.shape} {values.dtype} where {entry.shape} {entry.dtype} was announced")
    if values.flags.c_contiguous:
        values = values.reshape(-1)
    count = max(_ROWS, len(values) * CHUNK // max(1, values.nbytes))
    for row in range(0, len(values), count):
        rows = values[row : row + count]
        piece = scratch.piece(rows.nbytes)
        lay_out(rows, piece.view(rows.dtype).reshape(rows.shape))
        yield piece.data


def opened(tensor: StoredTensor, nbytes: int) -> FileIO:
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


def short(tensor: StoredTensor, place: int) -> CorruptCheckpointError:
    """The error where a file ends at this place, within a tensor."""
    return CorruptCheckpointError(tensor.storage.path, f"ends before byte {place:,}, where a tensor's values should be")
