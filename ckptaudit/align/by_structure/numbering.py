"""Whether the numbers in names count anything. Names such as ``m37`` may have been given at random."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from math import exp, log
from operator import itemgetter

from ckptaudit.align.by_structure.grading import Found
from ckptaudit.align.by_structure.level import Level, Worth
from ckptaudit.align.by_structure.tree import Forest, masked_path, numbers_of
from ckptaudit.align.by_structure.words import NUMBER

__all__ = ["worth_of_numbers"]

#: Share of neighbours in a series that must stand in one order on the other side, and neighbours below which nothing is concluded. Numbers
#: given at random come to a half.
_AGREEING, _FEW = 0.75, 8
#: How seldom numbers given at random agree with the other side so well that it proves them; and with the order of their own file, that they
#: are believed until something speaks against them.
_PROVEN, _BELIEVED = 4e-3, 0.05
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
    if any(_agree(sum(verdict), len(verdict), _PROVEN) for verdict in verdicts):
        return Worth.EVIDENCE
    if any(len(verdict) >= _FEW and sum(verdict) < _AGREEING * len(verdict) for verdict in verdicts):
        return Worth.NOTHING
    return Worth.PROPOSAL if _flat_at_random(side) else Worth.EVIDENCE


def _agree(agreeing: int, of: int, chance: float) -> bool:
    """Whether most do, and so many coins would seldom fall on one side.

    How often they do is at most what Chernoff's bound says (Annals of Mathematical Statistics 23, 1952).
    """
    if not of or agreeing < _AGREEING * of:
        return False
    share = agreeing / of
    apart = share * log(2 * share) + ((1 - share) * log(2 * (1 - share)) if agreeing < of else 0)
    return exp(-of * apart) <= chance


def _flat_at_random(side: Forest) -> bool:
    """Whether most layers of a side make one series whose numbers go against the order in which it is written down.

    A segment that is a number (``features.3``) is a place in a list, whatever the order of the file.
    """
    places = [_numbered_part(masked_path(node.path)) for node in side.atoms]
    series, count = max(Counter(places).items(), key=itemgetter(1), default=((), 0))
    if not side.side.ordered or count <= max(_FEW, len(places) / 2) or not any(NUMBER in segment != NUMBER for segment in series):
        return False
    # What a module keeps beside its weights is named below it and has its numbers.
    first: dict[_Numbers, int] = {}
    for i, place in enumerate(places):
        if place == series:
            order = side.items[i][0].order
            first[_numbers(side, i)] = min(order, first.get(_numbers(side, i), order))
    members = sorted((order, numbers) for numbers, order in first.items())
    return len(members) > _FEW and not _agree(sum(a[1] < b[1] for a, b in pairwise(members)), len(members) - 1, _BELIEVED)


def _numbered_part(masked: tuple[str, ...]) -> tuple[str, ...]:
    return masked[: max((at for at, segment in enumerate(masked, 1) if NUMBER in segment), default=0)]


def _in_one_order(here: Forest, there: Forest, pairs: list[tuple[int, int]]) -> bool:
    places = sorted((here.items[s][0].order, there.items[t][0].order) for s, t in pairs)
    return sum(a[1] < b[1] for a, b in pairwise(places)) >= _ONE_ORDER * (len(places) - 1)


def _numbers(side: Forest, atom: int) -> _Numbers:
    return numbers_of(side.atoms[atom].path)
