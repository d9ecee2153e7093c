"""What containers cannot tell, since one side has none or others: layers that stand at the same place in the order of all layers.

Nothing of it is sure: of two layers with one shape either may have been written down first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from ckptaudit.align.by_structure.grading import Found
from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.tree import Forest

__all__ = ["in_sequence"]

#: Share of the smaller side's kernels that must be of shapes that both sides have.
_SHARED = 0.95
#: Share of the smaller side's layers that have been placed where nothing is asked of the order.
_PLACED = 0.9


def in_sequence(here: Forest, there: Forest, found: list[Found]) -> list[Found]:
    """What is sure of the pairs, and what the order of all layers adds; the pairs as they are where they are many or go against it.

    The kernels of shapes that both sides have must be equally many, and in one order.
    """
    if not (here.side.ordered and there.side.ordered) or len(found) >= _PLACED * min(len(here.atoms), len(there.atoms)):
        return found
    runs, others = _runs(here), _runs(there)
    fewer = min(len(runs), len(others))
    shared = {here.keys[2][run[0]] for run in runs} & {there.keys[2][run[0]] for run in others}
    runs = [run for run in runs if here.keys[2][run[0]] in shared]
    others = [run for run in others if there.keys[2][run[0]] in shared]
    if not runs or len(runs) < _SHARED * fewer or [here.keys[2][run[0]] for run in runs] != [there.keys[2][run[0]] for run in others]:
        return found
    sure = [pair for pair in found if pair.level]
    forth, back = {pair.source: pair.target for pair in sure}, {pair.target: pair.source for pair in sure}
    placed = [pair for run, other in zip(runs, others, strict=True) for pair in _together(here, there, run, other)]
    if any(forth.get(s, t) != t or back.get(t, s) != s for s, t in placed):
        return found
    added = (Found(s, t, Level.AMBIGUOUS, ("same place in the order of all layers",), None) for s, t in placed if s not in forth)
    return [*sure, *added]


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
