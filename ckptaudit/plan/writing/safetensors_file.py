"""A plan carried out into a safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from ckptaudit.errors import PlanError
from ckptaudit.files import new_file
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.writing.entries import Entry, entries_of, provenance
from ckptaudit.plan.writing.placing import Placed, write_placed

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

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


def write_safetensors(
    plan: Plan, checkpoint: Checkpoint, output: str | os.PathLike[str], *, force: bool, progress: Callable[[int, int], None]
) -> int:
    """Write the file; gives its size. See :func:`ckptaudit.plan.writing.write_restored`."""
    # Wider elements first, so that each tensor lies at a multiple of its elements' width.
    entries = sorted(entries_of(plan, checkpoint, _WORDS, "safetensors"), key=lambda entry: -DTYPE_BITS[entry.dtype])
    header = _header(entries, provenance(plan, checkpoint))
    total = sum(entry.nbytes for entry in entries)
    with new_file(output, force=force) as file:
        file.write(header)
        ends = accumulate((entry.nbytes for entry in entries), initial=len(header))
        done = 0
        for count in write_placed(list(map(Placed, entries, ends)), checkpoint, file):
            done += count
            progress(done, total)
    return len(header) + total


def _header(entries: list[Entry], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata}
    begin = 0
    for entry in entries:
        if entry.step.target == "__metadata__":
            raise PlanError("safetensors has no tensor '__metadata__'")
        header[entry.step.target] = {
            "dtype": _WORDS[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [begin, begin + entry.nbytes],
        }
        begin += entry.nbytes
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise PlanError("a name holds half a surrogate pair, which safetensors has no spelling for") from None
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
