"""Arrays as numpy saves them: where one holds objects, a pickle follows its header, and ``numpy.load(allow_pickle=True)`` runs that."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.lazily import compiled_when_used
from ckptaudit.read.pickles import Refusals
from ckptaudit.read.torch_nested import torch_machine

if TYPE_CHECKING:
    from ckptaudit.read.source import Source

MAGIC = b"\x93NUMPY"
#: Bytes in which numpy writes the header of an array of numbers; one of more says something else.
HEADER = 1024
#: The header of numbers, texts or bytes, exactly as numpy writes it. Whatever is spelt otherwise may mean objects.
_NUMBERS = compiled_when_used(
    rb"\{'descr': '[<>|=][?biufcSUVmM]\d+(\[\w+\])?', 'fortran_order': (True|False), 'shape': \([\d, ]*\), \}[ \n]*"
)


def pickle_in(data: Any, start: int = 0) -> int | None:
    """Where the pickle would begin of an array that stands at ``start``; None where it holds none."""
    fixed = data[start : start + 12]
    if fixed[:6] != MAGIC or len(fixed) < 12:
        return None
    length, at = (fixed[8:10], start + 10) if fixed[6] == 1 else (fixed[8:12], start + 12)
    size = int.from_bytes(length, "little")
    if size <= HEADER and _NUMBERS.fullmatch(data[at : at + size]):
        return None
    return at + size


def refusals_within(source: Source) -> Refusals:
    """What the pickle in an array of objects would call."""
    refusals = Refusals()
    begin = pickle_in(source.data)
    if begin is not None and begin < source.size:
        machine = torch_machine(source.data, source.path, refusals, lambda identity: identity, source.size)
        with suppress(CorruptCheckpointError):  # other values, or damaged: numpy goes no further either
            machine.run(begin, source.size, "the array of objects")
    return refusals
