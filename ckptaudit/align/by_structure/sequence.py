"""What containers cannot tell, since one side has none or others: layers that stand at the same place in the order of all layers.

Nothing of it is sure: of two layers with one shape either may have been written down first.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import takewhile

from ckptaudit.align.by_structure.grading import Found
from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.tree import Forest

__all__ = ["in_sequence"]

#: Share of the smaller side's kernels that must stand in one order on both sides. Networks of one family, such as two depths of a ResNet,
#: come close; they have containers, by which they are found before.
_AGREEING = 0.95
#: Share of the smaller side's layers that have been placed where nothing is asked of the order.
_PLACED = 0.9
#: Kernels up to which orders are compared, which takes time with the square of their number.
_MANY = 4000


def in_sequence(here: Forest, there: Forest, found: list[Found]) -> list[Found]:
    """What is sure of the pairs, and what the order of all layers adds; the pairs as they are where they are many or go against it."""
    kernels = [sum(key > 0 for key in side.keys[2]) for side in (here, there)]
    fewer = min(kernels)
    if not (here.side.ordered and there.side.ordered and 0 < fewer <= max(kernels) <= _MANY):
        return found
    if len(found) >= _PLACED * min(len(here.atoms), len(there.atoms)):
        return found
    sides = _runs(here), _runs(there)
    keys = [[side.keys[2][run[0]] for run in runs] for side, runs in zip((here, there), sides, strict=True)]
    blocks = SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks()
    pairs = [(sides[0][block.a + i], sides[1][block.b + i]) for block in blocks for i in range(block.size)]
    sure = [pair for pair in found if pair.level]
    forth, back = {pair.source: pair.target for pair in sure}, {pair.target for pair in sure}
    if len(pairs) < _AGREEING * fewer or any(forth.get(first[0], second[0]) != second[0] for first, second in pairs):
        return found
    added = [(s, t) for runs in pairs for s, t in _together(here, there, *runs) if s not in forth and t not in back]
    return [*sure, *(Found(s, t, Level.AMBIGUOUS, ("same place in the order of all layers",), None) for s, t in added)]


def _runs(side: Forest) -> list[list[int]]:
    """Each kernel with the layers without one that are defined between it and the next."""
    runs: list[list[int]] = []
    for atom in sorted(range(len(side.atoms)), key=lambda atom: side.items[atom][0].order):
        if side.keys[2][atom]:
            runs.append([atom])
        elif runs:
            runs[-1].append(atom)
    return runs


def _together(here: Forest, there: Forest, first: list[int], second: list[int]) -> Iterator[tuple[int, int]]:
    """Two kernels, and the layers behind them as far as they fit."""
    return takewhile(lambda pair: pair[0] == first[0] or _fit(here, there, *pair), zip(first, second, strict=False))


def _fit(here: Forest, there: Forest, source: int, target: int) -> bool:
    """Whether two layers have something in common, and nothing of one name with two shapes."""
    one, other = ({item.role: item.shape for item in side.items[atom]} for side, atom in ((here, source), (there, target)))
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[role] == other[role] for role in shared)
