"""Numbered blocks that were paired with a neighbour of theirs: consistent, and wrong.

With holes in both sides a shift by one may have as much for it as none, layer by layer. The ends of the series tell: where both sides
count blocks from 0 to 11, a shift leaves one over on each. So does a shape that is in one block alone: that block is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence

from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.tree import masked_path
from ckptaudit.align.by_structure.words import masked, numbers_in

__all__ = ["shifted_blocks"]

#: A numbered container in its parent: the parent's path and its own name with the number masked.
_Series = tuple[Path, str]

#: An atom: its path, and its shapes as one number, 0 where no matrix is among them.
_Atom = tuple[Path, int]


def shifted_blocks(
    pairs: Mapping[int, int], single: Container[int], here: Sequence[_Atom], there: Sequence[_Atom], *, strict: bool
) -> set[int]:
    """Sources of the pairs in blocks whose numbers are shifted though both series have the same, or otherwise than known blocks say.

    Parameters
    ----------
    pairs:
        Target atoms by source atom.
    single:
        Sources of the pairs whose shapes occur once on each side; these are never among the result.
    here, there:
        All atoms of the two sides: paths, and shapes as numbers.
    strict:
        Both sides lack something: a number may not vary, and a shape be in one block alone, because others were lost. Then neither acquits.
    """
    counting = _counting((path for path, _ in here), all_of_them=strict), _counting((path for path, _ in there), all_of_them=strict)
    shifts: dict[tuple[_Series, _Series], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for source, target in pairs.items():
        blocks = _blocks(here[source][0], counting[0]), _blocks(there[target][0], counting[1])
        for (series, number), (other, moved) in zip(*blocks, strict=False):
            shifts[series, other][moved - number].append(source)
    shifted = {both for both, by_shift in shifts.items() if by_shift.keys() != {0}}
    numbers = _numbers(here, {series for series, _ in shifted}, counting[0]), _numbers(there, {other for _, other in shifted}, counting[1])
    found: set[int] = set()
    for series, other in shifted:
        by_shift = shifts[series, other]
        mine, theirs = numbers[0][series], numbers[1][other]
        known = {shift for shift, sources in by_shift.items() if any(source in single for source in sources)}
        alone = {
            shift
            for shift, sources in by_shift.items()
            if any(_alone(here[source][1], mine) and _alone(there[pairs[source]][1], theirs) for source in sources)
        }
        if set().union(*mine.values()) == set().union(*theirs.values()):
            known = {0}
        elif alone - known and not strict:
            continue  # blocks of their own shapes lead elsewhere: the two series do not count alike
        if len(known) == 1:
            found.update(source for shift, sources in by_shift.items() if shift not in known for source in sources if source not in single)
    return found


def _alone(shapes: int, numbers: Mapping[int, set[int]]) -> bool:
    """Whether matrices of these shapes are in one block alone."""
    return bool(shapes) and len(numbers[shapes]) == 1


def _counting(paths: Iterable[Path], *, all_of_them: bool) -> set[_Series]:
    """Masked containers with a number, or only those whose numbers vary: that of ``data2vec`` counts nothing."""
    numbers: dict[_Series, int] = {}
    varying: set[_Series] = set()
    for path in paths:
        plain = masked_path(path)
        for i, segment in enumerate(path[:-1]):
            if len(number := numbers_in(segment)) == 1 and numbers.setdefault((plain[:i], plain[i]), number[0]) != number[0]:
                varying.add((plain[:i], plain[i]))
    return set(numbers) if all_of_them else varying


def _blocks(path: Path, counting: Container[_Series]) -> list[tuple[_Series, int]]:
    """The containers with one number that counts in their name around an atom, outermost first."""
    return [
        ((path[:i], masked(segment)), found[0])
        for i, segment in enumerate(path[:-1])
        if len(found := numbers_in(segment)) == 1 and (masked_path(path[:i]), masked(segment)) in counting
    ]


def _numbers(atoms: Iterable[_Atom], wanted: set[_Series], counting: Container[_Series]) -> dict[_Series, dict[int, set[int]]]:
    """Numbers of the blocks of each series, by the shapes that are in them."""
    found: dict[_Series, dict[int, set[int]]] = {series: defaultdict(set) for series in wanted}
    for path, shapes in atoms if wanted else ():
        for series, number in _blocks(path, counting):
            if series in found:
                found[series][shapes].add(number)
    return found
