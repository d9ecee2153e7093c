"""Whether the numbers in names count anything. Names such as ``m37`` may have been given at random."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from operator import itemgetter

from ckptaudit.align.by_structure.grading import Found
from ckptaudit.align.by_structure.level import Level, Worth
from ckptaudit.align.by_structure.tree import Forest, masked_path
from ckptaudit.align.by_structure.words import NUMBER, numbers_in

__all__ = ["worth_of_numbers"]

#: Share of neighbours in a series that must stand in one order on the other side, and neighbours below which nothing is concluded. Numbers
#: given at random come to a half.
_AGREEING, _FEW = 0.75, 8
#: Share of neighbouring sure layers that stand in one order on both sides where both have the order of their code.
_ONE_ORDER = 0.85

_Numbers = tuple[int, ...]


def worth_of_numbers(here: Forest, there: Forest, found: list[Found]) -> Worth:
    """What the numbers of both sides are good for: layers that shapes alone decide stand on the other side as the numbers say, or do not.

    That is by the other side's order, if both have one, or by its numbers. Where neither tells enough, numbers of one flat series that go
    against the order in which it is written down may propose, and prove nothing.
    """
    pairs = [(pair.source, pair.target) for pair in found if pair.level == Level.DECIDED]
    ordered = here.side.ordered and there.side.ordered and _in_one_order(here, there, pairs)
    back = [(t, s) for s, t in pairs]
    return min(_worth(here, there, pairs, ordered=ordered), _worth(there, here, back, ordered=ordered))


def _worth(side: Forest, other: Forest, pairs: list[tuple[int, int]], *, ordered: bool) -> Worth:
    series: dict[tuple[str, ...], list[tuple[_Numbers, int]]] = defaultdict(list)
    for atom, counterpart in pairs:
        if numbers := _numbers(side, atom):
            series[masked_path(side.atoms[atom].path)].append((numbers, counterpart))
    neighbours = [(a, b) for members in series.values() for (_, a), (_, b) in pairwise(sorted(members))]
    alike = [(a, b) for a, b in neighbours if masked_path(other.atoms[a].path) == masked_path(other.atoms[b].path)]
    verdicts = [
        [other.items[a][0].order < other.items[b][0].order for a, b in neighbours if ordered],
        [_numbers(other, a) < _numbers(other, b) for a, b in alike],
    ]
    telling = [verdict for verdict in verdicts if len(verdict) >= _FEW]
    if telling:
        return Worth.EVIDENCE if any(sum(verdict) >= _AGREEING * len(verdict) for verdict in telling) else Worth.NOTHING
    return Worth.PROPOSAL if _flat_at_random(side) else Worth.EVIDENCE


def _flat_at_random(side: Forest) -> bool:
    """Whether most layers of a side make one series whose numbers go against the order in which it is written down.

    A segment that is a number (``features.3``) is a place in a list, whatever the order of the file.
    """
    paths = Counter(masked_path(node.path) for node in side.atoms)
    series, count = max(paths.items(), key=itemgetter(1), default=((), 0))
    if not side.side.ordered or count <= max(_FEW, len(side.atoms) / 2) or not any(NUMBER in segment != NUMBER for segment in series):
        return False
    members = sorted((side.items[i][0].order, _numbers(side, i)) for i, node in enumerate(side.atoms) if masked_path(node.path) == series)
    return sum(a[1] < b[1] for a, b in pairwise(members)) < _AGREEING * (len(members) - 1)


def _in_one_order(here: Forest, there: Forest, pairs: list[tuple[int, int]]) -> bool:
    places = sorted((here.items[s][0].order, there.items[t][0].order) for s, t in pairs)
    return sum(a[1] < b[1] for a, b in pairwise(places)) >= _ONE_ORDER * (len(places) - 1)


def _numbers(side: Forest, atom: int) -> _Numbers:
    return tuple(number for segment in side.atoms[atom].path for number in numbers_in(segment))
