"""The members of a tar, as far as it takes to find the pickles in it: torch before 0.2 saved so, and people pack checkpoints so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read import npy
from ckptaudit.read.pickles import Refusals
from ckptaudit.read.torch_nested import torch_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.source import Source

#: Members of torch's tar that begin with a pickle.
TORCH_MEMBERS = ("sys_info", "pickle", "storages", "tensors")

_BLOCK, _MAX_MEMBERS = 512, 10_000


def refusals_within(source: Source) -> Refusals:
    """What the pickles of a tar would call, the first of each member and those that follow it at once."""
    refusals = Refusals()
    for name, start, end in _members(source):
        pickled = name in TORCH_MEMBERS or name.lower().endswith((".pkl", ".pickle"))
        begin = start if pickled else npy.pickle_in(source.data, start)
        if begin is None:
            continue
        try:
            machine = torch_machine(source.data, source.path, refusals, lambda identity: identity, source.size)
            machine.run(begin, end, name)
            while source.data[machine.position : min(machine.position + 1, end)] == b"\x80":
                machine.run(machine.position, end, name)
        except CorruptCheckpointError:
            continue  # numbers, or no pickle: torch does not go on from there either
    return refusals


def _members(source: Source) -> Iterator[tuple[str, int, int]]:
    """Name of each member, its first byte, and the one behind its last that is in the file."""
    position = 0
    for _ in range(_MAX_MEMBERS):
        header = source.data[position : position + _BLOCK]
        field = header[124:136].strip(b" \x00")
        if len(header) < _BLOCK or not header.strip(b"\x00") or field.strip(b"01234567"):
            return
        start = position + _BLOCK
        size = int(field or b"0", 8)
        yield header[:100].partition(b"\x00")[0].decode("utf-8", "surrogateescape"), start, min(start + size, source.size)
        position = start + size + -size % _BLOCK
