"""What stands right before and behind a pair in definition order: a norm belongs to the convolution that it follows."""

from __future__ import annotations

from collections.abc import Mapping

from ckptaudit.align.by_structure.tree import Forest

__all__ = ["Neighbours"]


class Neighbours:
    """The neighbours of atoms on both sides, and whether they belong together.

    Parameters
    ----------
    pairs:
        Target atoms by source atom, of all pairs that are known well enough to ask them.
    """

    def __init__(self, here: Forest, there: Forest, pairs: Mapping[int, int]) -> None:
        self._here, self._there = _beside(here), _beside(there)
        self._forth, self._back = pairs, {target: source for source, target in pairs.items()}

    def agree(self, source: int, target: int) -> bool | None:
        """True where a neighbour's counterpart is the counterpart's neighbour; False where those that are known are none; else None."""
        verdict = None
        for mine, theirs in zip(self._here[source], self._there[target], strict=True):
            if self._forth.get(mine, -1) == theirs >= 0:
                return True
            if mine in self._forth or theirs in self._back:
                verdict = False
        return verdict

    def changed(self) -> int:
        """How many atoms without a counterpart stand in the same place on both sides: changed layers, not missing ones."""
        count = 0
        for i, (before, behind) in enumerate(self._here):
            if i not in self._forth and before in self._forth and behind in self._forth:
                place = self._there[self._forth[before]][1]
                count += place == self._there[self._forth[behind]][0] and place not in self._back
        return count


def _beside(forest: Forest) -> list[tuple[int, int]]:
    """For each atom the one before and the one behind it in definition order, -1 where there is none."""
    order = sorted(range(len(forest.atoms)), key=lambda i: forest.items[i][0].order)
    found = [(-1, -1)] * len(order)
    for before, i, behind in zip([-1, *order[:-1]], order, [*order[1:], -1], strict=True):
        found[i] = before, behind
    return found
