"""Numbered blocks that were paired with a neighbour of theirs: consistent, and wrong.

With holes in both sides a shift by one may have as much for it as none, layer by layer. The ends of the series tell: where both sides
count blocks from 0 to 11, a shift leaves one over on each. So does a shape that is there but once: its block is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.words import masked, numbers_in

__all__ = ["shifted_blocks"]

#: A numbered container in its parent: the parent's path and its own name with the number masked.
_Series = tuple[Path, str]


def shifted_blocks(pairs: Mapping[int, tuple[Path, Path]], single: Container[int], here: Iterable[Path], there: Iterable[Path]) -> set[int]:
    """Keys of the pairs in blocks whose numbers are shifted though both series have the same, or otherwise than single shapes in them say.

    Parameters
    ----------
    pairs:
        Paths of two atoms that belong together, under a key of the caller's.
    single:
        Keys of the pairs whose shapes occur once on each side; these are never among the result.
    here, there:
        Paths of all atoms of the two sides.
    """
    shifts: dict[tuple[_Series, _Series], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for key, (source, target) in pairs.items():
        blocks = _blocks(source), _blocks(target)
        for (series, number), (other, moved) in zip(*blocks, strict=False):
            shifts[series, other][moved - number].append(key)
    shifted = {both for both, by_shift in shifts.items() if by_shift.keys() != {0}}
    numbers = _numbers(here, {series for series, _ in shifted}), _numbers(there, {other for _, other in shifted})
    found: set[int] = set()
    for series, other in shifted:
        by_shift = shifts[series, other]
        known = {shift for shift, keys in by_shift.items() if any(key in single for key in keys)}
        if numbers[0][series] == numbers[1][other]:
            known = {0}
        if len(known) == 1:
            found.update(key for shift, keys in by_shift.items() if shift not in known for key in keys if key not in single)
    return found


def _blocks(path: Path) -> list[tuple[_Series, int]]:
    """The containers with one number in their name around an atom, outermost first."""
    return [((path[:i], masked(segment)), found[0]) for i, segment in enumerate(path[:-1]) if len(found := numbers_in(segment)) == 1]


def _numbers(paths: Iterable[Path], wanted: set[_Series]) -> dict[_Series, set[int]]:
    found: dict[_Series, set[int]] = {series: set() for series in wanted}
    for path in paths if wanted else ():
        for series, number in _blocks(path):
            if series in found:
                found[series].add(number)
    return found
