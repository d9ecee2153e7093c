"""Step 9: an audit of the whole, after which a pair is called sure only if the containers around it agree.

Shapes that occur equally often on both sides are not touched by what is missing. For all others a pair must lie where
its neighbours lie: coincidental one-to-one leftovers of damaged blocks do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.namesakes import Namesakes
from ckptaudit.align.by_structure.tree import Forest, Node

__all__ = ["Found", "audited", "order_agreement"]

#: Share of a container's pairs that must lead to one place to say where the container is.
_MAJORITY = 0.75

#: Evidence that is enough where nothing around a pair tells anything.
_NAMED = frozenset({"learned rule", "role words", "same index", "same index as its siblings", "same words and numbers", "same name"})


@dataclass(frozen=True, slots=True)
class Found:
    """Two atoms by their numbers, after the chain of containers around them was taken into account.

    ``whole``: they lie in large containers that correspond in everything, with nothing left over on the source's, the target's side.
    """

    source: int
    target: int
    level: Level
    evidence: tuple[str, ...]
    runner_up: int | None
    whole: tuple[bool, bool] = (False, False)


def audited(here: Forest, there: Forest, found: list[Found]) -> list[Found]:
    """The pairs, those ambiguous whose shapes are not in balance and whose surroundings or namesakes do not support them."""
    sure = [pair for pair in found if pair.level]
    refuted = _astray(here, there, sure) | _unlike_their_namesakes(here, there, sure)
    if not refuted:
        return found
    return [
        replace(pair, level=Level.AMBIGUOUS, evidence=(*pair.evidence, "against its surroundings")) if pair.source in refuted else pair
        for pair in found
    ]


def _astray(here: Forest, there: Forest, sure: list[Found]) -> set[int]:
    """Sources of the pairs that lie elsewhere than what is around them."""
    counts = [(Counter(mine), Counter(theirs)) for mine, theirs in zip(here.keys, there.keys, strict=True)]

    def out_of_balance(pair: Found) -> bool:
        for mine, theirs, (count_here, count_there) in zip(here.keys, there.keys, counts, strict=True):
            if mine[pair.source] == theirs[pair.target]:
                excess = count_here[mine[pair.source]] - count_there[mine[pair.source]]
                # What one side has more of does not matter if its container has found counterparts for all it holds.
                return excess != 0 and not pair.whole[0 if excess > 0 else 1]
        return not all(pair.whole)

    doubtful = [pair for pair in sure if out_of_balance(pair)]
    # With something left over, equal numbers may be a coincidence, too.
    left_over = len(sure) < max(len(here.atoms), len(there.atoms))
    watched = [pair for pair in sure if left_over and not all(pair.whole)]
    if not doubtful and not watched:
        return set()
    forth = {pair.source: pair.target for pair in sure}
    back = {pair.target: pair.source for pair in sure}
    places = _Places(here, there, forth), _Places(there, here, back)
    refuted = {pair.source for pair in watched if _contradicted(pair, places)}
    return refuted | {pair.source for pair in doubtful if _contradicted(pair, places) or not _NAMED & set(pair.evidence)}


def _unlike_their_namesakes(here: Forest, there: Forest, sure: list[Found]) -> set[int]:
    """Sources of the pairs that are renamed otherwise than tensors of the same name in sibling blocks.

    With holes in both sides equal numbers of a shape prove nothing: one may have lost what the other has kept. Then a pair is
    believed only if its namesakes support it.
    """
    if len(sure) < 2:
        return set()
    namesakes = Namesakes((here.atoms[pair.source].path, there.atoms[pair.target].path) for pair in sure)
    counts = Counter(here.keys[0]), Counter(there.keys[0])
    shared = counts[0].keys() & counts[1].keys()
    holes = any(counts[0][key] > counts[1][key] for key in shared) and any(counts[0][key] < counts[1][key] for key in shared)
    verdicts = zip(sure, namesakes.verdicts(), strict=True)
    return {pair.source for pair, verdict in verdicts if verdict is False or (holes and verdict is None)}


def _contradicted(pair: Found, places: tuple[_Places, _Places]) -> bool:
    """Whether the containers around a pair lead elsewhere, from either side."""
    return places[0].agrees(pair.source, pair.target) is False or places[1].agrees(pair.target, pair.source) is False


class _Places:
    """Where each container of one side lies on the other side, judged by the sure pairs in it."""

    def __init__(self, here: Forest, there: Forest, pairs: dict[int, int]) -> None:
        self.here, self.there, self.pairs = here, there, pairs
        self._sorted: dict[int, list[int]] = {}

    def agrees(self, atom: int, other: int) -> bool | None:
        """Whether ``other`` lies where the containers around ``atom`` lie; None where they do not say."""
        verdict = None
        for node in _ancestors(self.here.atoms[atom]):
            place = self._place(node, other)
            if place is None:
                continue
            if place.parent is None or place.parent.parent is None:
                break
            if not place.low <= other < place.high:
                return False
            verdict = True
        return verdict

    def _place(self, node: Node, without: int) -> Node | None:
        points = self._sorted.get(id(node))
        if points is None:
            points = self._sorted[id(node)] = sorted(self.pairs[i] for i in range(node.low, node.high) if i in self.pairs)
        count = len(points) - 1
        if count < 1:
            return None
        middle = points[len(points) // 2]
        if middle == without:
            middle = points[len(points) // 2 - 1]
        place: Node = self.there.atoms[middle]
        while place.parent is not None:
            inside = bisect_left(points, place.high) - bisect_left(points, place.low)
            inside -= place.low <= without < place.high
            if inside >= _MAJORITY * count and place.high - place.low > count:
                break
            place = place.parent
        return place


def _ancestors(node: Node) -> Iterator[Node]:
    above = node.parent
    while above is not None and above.parent is not None:
        yield above
        above = above.parent


def order_agreement(here: Forest, there: Forest, found: list[Found]) -> float:
    """Share of neighbouring sure pairs that stand in the same order on both sides; 1 where there are too few to tell."""
    places = sorted((here.items[p.source][0].order, there.items[p.target][0].order) for p in found if p.level)
    if len(places) < 5:
        return 1.0
    return sum(a[1] < b[1] for a, b in pairwise(places)) / (len(places) - 1)
