"""Step 9: an audit of the whole, after which a pair is called sure only if the containers around it agree.

Shapes that occur equally often on both sides are not touched by what is missing. For all others a pair must lie where
its neighbours lie: coincidental one-to-one leftovers of damaged blocks do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterator
from itertools import pairwise

from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.namesakes import Namesakes
from ckptaudit.align.by_structure.neighbours import Neighbours
from ckptaudit.align.by_structure.shifts import shifted_blocks
from ckptaudit.align.by_structure.tree import Forest, Node
from ckptaudit.records import dataclass, replace

__all__ = ["Found", "audited", "order_agreement"]

#: Share of a container's pairs that must lead to one place to say where the container is.
_MAJORITY = 0.75

#: What stands beside a container counts where the container around both is at most so many times as large, and where the container has
#: so few atoms that it may equal another one by coincidence.
_BESIDE, _SMALL = 2, 16

#: So many atoms, or this share, may be left over on both sides without a doubt about the others: other heads, another stem.
_HEADS, _LITTLE = 3, 0.03

#: Evidence that is enough where nothing around a pair tells anything.
_NAMED = frozenset({"learned rule", "role words", "same index", "same index as its siblings", "same words and numbers", "same name"})


@dataclass(frozen=True, slots=True)
class Whole:
    """Two large containers, by their atoms, that correspond in everything; whether something is left over in the source's, the target's."""

    source: range
    target: range
    left: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Found:
    """Two atoms by their numbers, after the chain of containers around them was taken into account.

    ``whole``: the containers that they lie in, if these correspond in everything.
    """

    source: int
    target: int
    level: Level
    evidence: tuple[str, ...]
    runner_up: int | None
    whole: Whole | None = None


def audited(here: Forest, there: Forest, found: list[Found]) -> list[Found]:
    """The pairs, those ambiguous whose shapes are not in balance and whose surroundings or namesakes do not support them."""
    sure = [pair for pair in found if pair.level]
    refuted = _Audit(here, there, sure).refuted()
    if not refuted:
        return found
    return [
        replace(pair, level=Level.AMBIGUOUS, evidence=(*pair.evidence, "against its surroundings")) if pair.source in refuted else pair
        for pair in found
    ]


class _Audit:
    """All that is asked about the sure pairs; each answer is a set of sources that it refutes."""

    def __init__(self, here: Forest, there: Forest, sure: list[Found]) -> None:
        self.here, self.there, self.sure = here, there, sure
        self.counts = [(Counter(mine), Counter(theirs)) for mine, theirs in zip(here.keys, there.keys, strict=True)]
        self.forth = {pair.source: pair.target for pair in sure}
        self.back = {pair.target: pair.source for pair in sure}
        self.left_over = len(sure) < max(len(here.atoms), len(there.atoms))
        self.left_on_both = len(sure) < min(len(here.atoms), len(there.atoms))
        few, self.missing = max(_HEADS, _LITTLE * min(len(here.atoms), len(there.atoms))), min(_excess(here, there))
        self.neighbours = Neighbours(here, there, self.forth) if self.missing > few else None
        self.much_missing = self.neighbours is not None and self.missing - self.neighbours.changed() > few
        # With holes in both sides equal numbers of a shape prove nothing: one may have lost what the other has kept.
        first, second = self.counts[0]
        excess = [first[key] - second[key] for key in first.keys() & second.keys()]
        self.holes = min(excess, default=0) < 0 < max(excess, default=0)
        self.rivalled = {
            whole
            for whole in {pair.whole for pair in sure if pair.whole is not None}
            if _rivalled(here, whole.source, self.forth) or _rivalled(there, whole.target, self.back)
        }

    def refuted(self) -> set[int]:
        """Sources of the pairs that are not sure after all."""
        namesakes = self._namesakes()
        found = {source for source, verdict in namesakes.items() if verdict is False or (self.holes and verdict is None)}
        doubtful = [pair for pair in self.sure if self._out_of_balance(pair)]
        # With something left over, equal numbers may be a coincidence, too.
        watched = [pair for pair in self.sure if self.left_over and not all(self._nothing_left(pair))]
        if doubtful or watched:
            places = _Places(self.here, self.there, self.forth), _Places(self.there, self.here, self.back)
            around = {pair.source: _around(pair, places) for pair in (*watched, *doubtful)}
            astray = {source for source, verdict in around.items() if verdict is False}
            found |= astray
            found |= {pair.source for pair in doubtful if not _NAMED & set(pair.evidence)}
            if self.neighbours is not None and self.much_missing:
                # One of several may be another one on each side, and one that is alone may have nothing for it but its shape.
                found |= self._apart(self.neighbours, watched, namesakes, around, astray)
        return found | self._shifted()

    def _namesakes(self) -> dict[int, bool | None]:
        """What tensors of the same name in sibling blocks say: they are renamed alike."""
        if len(self.sure) < 2:
            return {}
        namesakes = Namesakes((self.here.atoms[pair.source].path, self.there.atoms[pair.target].path) for pair in self.sure)
        return {pair.source: verdict for pair, verdict in zip(self.sure, namesakes.verdicts(), strict=True)}

    def _apart(
        self,
        neighbours: Neighbours,
        watched: list[Found],
        namesakes: dict[int, bool | None],
        around: dict[int, bool | None],
        astray: set[int],
    ) -> set[int]:
        """Pairs that are not what their neighbours say, asked where much is missing on both sides.

        One of several of a shape may be another one on each side, so that its namesakes must agree; what is alone may have nothing for it
        but its shape; a norm follows what it norms; and of two that lead to different places either may be wrong.
        """
        ordered = self.here.side.ordered and self.there.side.ordered
        found = set()
        for pair in watched:
            agree = neighbours.agree(pair.source, pair.target)
            alike = namesakes.get(pair.source)
            several = not self._single(pair.source) and not alike
            alone = around[pair.source] is None and alike is None and not agree and not _NAMED & set(pair.evidence)
            norm = self.holes and ordered and not self.here.keys[1][pair.source] and agree is False
            if several or alone or norm:
                found.add(pair.source)
        for forest, pairs, back in ((self.here, self.forth, None), (self.there, self.back, self.forth)):
            for source in astray:
                node = forest.atoms[source if back is None else back[source]]
                beside = [i for i in range(node.parent.low, node.parent.high) if i in pairs and i != node.atom] if node.parent else []
                if len(beside) == 1:  # two that lead to different places: either may be wrong
                    witness = beside[0] if back is None else pairs[beside[0]]
                    if not neighbours.agree(witness, self.forth[witness]):
                        found.add(witness)
        return found

    def _shifted(self) -> set[int]:
        """Pairs in blocks whose numbers are shifted though both sides have the same; a shape that is there but once may have moved."""
        if not self.left_on_both:
            return set()
        half = 0.5 * len(self.here.atoms)
        doubtful = [p for p in self.sure if p.whole is None or len(p.whole.source) < half or not all(self._nothing_left(p))]
        pairs = {pair.source: pair.target for pair in doubtful}
        atoms = [
            [(atom.path, strict if loose else 0) for atom, strict, loose in zip(side.atoms, side.keys[0], side.keys[1], strict=True)]
            for side in (self.here, self.there)
        ]
        return shifted_blocks(pairs, {source for source in pairs if self._single(source)}, *atoms, strict=self.missing > 0)

    def _single(self, source: int) -> bool:
        """Whether the shapes of a source atom, matrices among them, occur once on each side."""
        key = self.here.keys[0][source]
        return bool(self.here.keys[1][source]) and self.counts[0][0][key] == self.counts[0][1][key] == 1

    def _nothing_left(self, pair: Found) -> tuple[bool, bool]:
        """For each side whether the containers around a pair have found counterparts for all that is in them."""
        return (False, False) if pair.whole is None or pair.whole in self.rivalled else (not pair.whole.left[0], not pair.whole.left[1])

    def _out_of_balance(self, pair: Found) -> bool:
        for mine, theirs, (count_here, count_there) in zip(self.here.keys, self.there.keys, self.counts, strict=True):
            if mine[pair.source] == theirs[pair.target]:
                excess = count_here[mine[pair.source]] - count_there[mine[pair.source]]
                # What one side has more of does not matter if its container has found counterparts for all it holds.
                return excess != 0 and not self._nothing_left(pair)[0 if excess > 0 else 1]
        return not all(self._nothing_left(pair))


def _excess(here: Forest, there: Forest) -> tuple[int, int]:
    """How many atoms each side has that the other lacks, by the shapes of their matrices, or all shapes where there are none."""
    first, second = (Counter(loose or strict for strict, loose in zip(side.keys[0], side.keys[1], strict=True)) for side in (here, there))
    return (first - second).total(), (second - first).total()


def _rivalled(forest: Forest, inside: range, matched: Container[int]) -> bool:
    """Whether something stands right beside a container, in one not much larger, that may as well belong in it: a shape that it holds.

    A block that has lost a convolution equals, with its shortcut, the main branch of one that is whole.
    """
    node = forest.atoms[inside.start]
    while node.parent is not None and node.parent.low >= inside.start and node.parent.high <= inside.stop:
        node = node.parent
    around = node.parent
    if len(inside) > _SMALL or around is None or around.high - around.low > _BESIDE * len(inside):
        return False
    keys = forest.keys[0]
    beside = {keys[i] for i in range(around.low, around.high) if i not in inside and i not in matched}
    return not beside.isdisjoint(keys[inside.start : inside.stop])


def _around(pair: Found, places: tuple[_Places, _Places]) -> bool | None:
    """Whether the containers around a pair lead to each other, from either side; None where neither says anything."""
    verdicts = {places[0].agrees(pair.source, pair.target), places[1].agrees(pair.target, pair.source)}
    return False if False in verdicts else True if True in verdicts else None


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
