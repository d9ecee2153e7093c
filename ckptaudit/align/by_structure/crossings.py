"""Numbered equals that were paired crosswise: the second with the first, the first with the second.

With holes in many blocks a permutation of them may leave less over than their order does, and every pair of it looks like the only one
possible. Where shapes are equal, nothing but order tells numbered layers apart, and this is against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from operator import itemgetter

from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.tree import masked_path, numbers_of
from ckptaudit.align.by_structure.words import NUMBER
from ckptaudit.lazily import compiled_when_used

__all__ = ["crossed"]

_DIGITS = compiled_when_used(r"\d+")

#: A pair of layers: the paths of both, their shapes as one number, and whether the pair is known without any order.
_Pair = tuple[Path, Path, int, bool]
#: What carries a number, on both sides: a block, or a layer itself.
_Both = tuple[Path, Path]


def crossed(pairs: Iterable[_Pair]) -> Callable[[Path, Path], bool]:
    """Tell whether a pair of paths lies in blocks that were paired crosswise, or is itself.

    Crosswise is a pair that goes, with another one of the same shapes, up in a number of the one side and down in a number of the other.
    Only paths that differ in that one number, on either side, are held against each other. A block in which a pair is known stands where
    it belongs: a decoder may count down.
    """
    alike: dict[tuple[Path, Path, int], list[_Both]] = defaultdict(list)
    known: set[_Both] = set()
    for here, there, shapes, is_known in pairs:
        alike[masked_path(here), masked_path(there), shapes].append((here, there))
        if is_known:
            known.update((here[:i], there[:j]) for i in range(1, len(here)) for j in range(1, len(there)))
    found: set[_Both] = set()
    for members in alike.values():
        if _monotone(sorted((numbers_of(here), numbers_of(there)) for here, there in members)):
            continue  # then it is in each single number
        series: dict[_Both, list[tuple[int, int, _Both]]] = defaultdict(list)
        for here, there in members:
            for left, block, number in _one_masked(here):
                for right, other_block, other in _one_masked(there):
                    series[left, right].append((number, other, (block, other_block)))
        for numbered in series.values():
            found |= _inverted(sorted(numbered)) - known

    def within(here: Path, there: Path) -> bool:
        return bool(found) and any((here[:i], there[:j]) in found for i in range(1, len(here) + 1) for j in range(1, len(there) + 1))

    return within


def _inverted(numbered: list[tuple[int, int, _Both]]) -> set[_Both]:
    """Those whose second number is not above all before them and below all behind them."""
    others = list(map(itemgetter(1), numbered))
    highest = accumulate(others, max)
    lowest = reversed(list(accumulate(reversed(others), min)))
    return {both for (_, other, both), most, least in zip(numbered, highest, lowest, strict=True) if not most == other == least}


def _monotone(numbers: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    return all(a[1] <= b[1] for a, b in pairwise(numbers))


def _one_masked(path: Path) -> Iterator[tuple[Path, Path, int]]:
    """The path with each of its numbers masked in turn, up to where the number stands, and the number."""
    for i, segment in enumerate(path):
        for match in _DIGITS.finditer(segment):
            masked = segment[: match.start()] + NUMBER + segment[match.end() :]
            yield (*path[:i], masked, *path[i + 1 :]), path[: i + 1], int(match[0])
