"""Carry out a plan into a safetensors file, one tensor at a time: memory does not grow with the file.

The header is known before a value is read, since every step knows its shape. Tensors that only get another name are copied by the
system from file to file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ckptaudit._version import __version__
from ckptaudit.align.ops import shape_after
from ckptaudit.errors import CorruptCheckpointError, OutputError, PlanError, ValuesUnavailableError
from ckptaudit.files import new_file
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.plan.applying import open_for, refuse_ambiguous, refuse_other_source, refuse_undecoded, step_result
from ckptaudit.plan.plan import Plan, Step
from ckptaudit.read.stored import contiguous_strides

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint
    from ckptaudit.read.stored import StoredTensor

#: What the format calls a dtype.
_WORDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the file to be."""

    step: Step
    shape: tuple[int, ...]
    dtype: str
    begin: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: number of tensors and bytes."""

    path: Path
    tensors: int
    nbytes: int


def write_restored(
    plan: Plan,
    source: str | os.PathLike[str] | Checkpoint,
    output: str | os.PathLike[str],
    *,
    force: bool = False,
    allow_ambiguous: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the tensors that the plan gives into a new safetensors file; the source is only read.

    Parameters
    ----------
    progress:
        Called with the bytes written so far, and all there will be.

    Raises
    ------
    PlanError
        The plan is ambiguous, does not belong to the source, or a step does not fit its tensors.
    OutputError
        The output exists and ``force`` is not given, is the source itself, or has a suffix other than ``.safetensors``.
    """
    check_suffix(output)
    refuse_ambiguous(plan, allow_ambiguous)
    checkpoint = open_for(plan, source)
    refuse_other_source(plan, list(checkpoint.graph), str(checkpoint.path), check=True)
    _refuse_source_as_output(checkpoint, output)
    entries = _lay_out(plan, checkpoint)
    header = _header(entries, plan, checkpoint)
    total = sum(entry.nbytes for entry in entries)
    with new_file(output, force=force) as file:
        file.write(header)
        file.flush()  # what follows may go past Python's buffer
        done = 0
        for entry in entries:
            for count in _copied(entry, checkpoint, file):
                done += count
                if progress is not None:
                    progress(done, total)
    return Written(Path(output), len(entries), len(header) + total)


def check_suffix(output: str | os.PathLike[str]) -> None:
    """Raise OutputError for a name that promises another format."""
    if Path(output).suffix != ".safetensors":
        raise OutputError(f"{os.fspath(output)}: restored checkpoints are written as safetensors; the name must end in .safetensors")


def _refuse_source_as_output(checkpoint: Checkpoint, output: str | os.PathLike[str]) -> None:
    read = {checkpoint.path, *(tensor.storage.path for tensor in checkpoint.branch.tensors.values())}
    if Path(output).exists() and any(path.exists() and path.samefile(output) for path in read):
        raise OutputError(f"{os.fspath(output)}: is the checkpoint itself, which is never written to")


def _lay_out(plan: Plan, checkpoint: Checkpoint) -> list[_Entry]:
    """Entries in the file's order: wider elements first, so that each lies at a multiple of its width."""
    tensors = checkpoint.branch.tensors
    shaped: list[tuple[Step, tuple[int, ...], str]] = []
    for step in plan.steps:
        dtype = tensors[step.sources[0]].dtype
        try:
            refuse_undecoded(dtype)
            if dtype not in _WORDS:
                raise PlanError(f"safetensors has no dtype {dtype}")
            if any(getattr(op, "needs_initial", False) for op in step.ops):
                raise PlanError("keeps rows of the model's initial values, which only Plan.apply(…, initial=…) can give")
            shape = shape_after(step.ops, [tensors[name].shape for name in step.sources])
        except PlanError as error:
            raise PlanError(f"{step.target}: {error}") from None
        shaped.append((step, shape, dtype))
    shaped.sort(key=lambda row: -DTYPE_BITS[row[2]])
    entries: list[_Entry] = []
    begin = 0
    for step, shape, dtype in shaped:
        entries.append(_Entry(step, shape, dtype, begin))
        begin += entries[-1].nbytes
    return entries


def _header(entries: list[_Entry], plan: Plan, checkpoint: Checkpoint) -> bytes:
    provenance = {
        "format": "pt",
        "tool": "ckptaudit",
        "tool_version": __version__,
        "source": checkpoint.path.name.encode("utf-8", "backslashreplace").decode("utf-8"),
        "plan": plan.fingerprint,
    }
    if checkpoint.branch.name:
        provenance["source_branch"] = checkpoint.branch.name
    if plan.target is not None and plan.target.name:
        provenance["target"] = plan.target.name
    header: dict[str, object] = {"__metadata__": provenance}
    for entry in entries:
        if entry.step.target == "__metadata__":
            raise PlanError("safetensors has no tensor '__metadata__'")
        header[entry.step.target] = {
            "dtype": _WORDS[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.begin + entry.nbytes],
        }
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise PlanError("a name holds half a surrogate pair, which safetensors has no spelling for") from None
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _copied(entry: _Entry, checkpoint: Checkpoint, file: BinaryIO) -> Iterator[int]:
    """Write one tensor; yields the bytes written, piece by piece."""
    tensor = checkpoint.branch.tensors[entry.step.sources[0]]
    dense = tensor.strides == contiguous_strides(tensor.shape) and not tensor.storage.big_endian
    if not entry.step.ops and dense:
        yield from _copied_bytes(tensor, entry.nbytes, file)
        return
    values = step_result(entry.step, checkpoint)
    if values.shape != entry.shape or values.nbytes != entry.nbytes:
        raise PlanError(f"{entry.step.target}: gave {values.shape} {values.dtype} where {entry.shape} {entry.dtype} was announced")
    file.write(values.reshape(-1).view("uint8").data)
    file.flush()
    yield entry.nbytes


def _copied_bytes(tensor: StoredTensor, nbytes: int, file: BinaryIO) -> Iterator[int]:
    storage = tensor.storage
    first = tensor.offset * DTYPE_BITS[tensor.dtype] // 8
    if storage.unavailable and nbytes:
        raise ValuesUnavailableError(storage.path, storage.unavailable)
    if first + nbytes > storage.nbytes:
        raise CorruptCheckpointError(storage.path, f"a tensor reaches {first + nbytes:,} bytes into a storage of {storage.nbytes:,}")
    with os.fdopen(storage.file.open(), "rb", buffering=0) as source:
        at, left = storage.offset + first, nbytes
        while left:
            count = _move(source, at, min(left, _CHUNK), file)
            if not count:
                raise CorruptCheckpointError(storage.path, f"ends before byte {at + left:,}, where a tensor's values should be")
            at, left = at + count, left - count
            yield count


def _move(source: FileIO, at: int, count: int, file: BinaryIO) -> int:
    """Append up to ``count`` bytes to ``file``, from file to file within the system where it can do that."""
    try:
        return os.copy_file_range(source.fileno(), file.fileno(), count, at)
    except (AttributeError, OSError):  # another system, or two file systems between which it cannot
        source.seek(at)
        data = source.read(count)
        file.write(data)
        file.flush()
        return len(data)
