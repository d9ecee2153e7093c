"""Step 6: what pairs that are sure teach about how these two code bases rename things.

A rule holds in a *context*, a pair of scopes. Inside it says which relative name becomes which. Contradictions silence it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from ckptaudit.align.by_structure.words import masked, numbers_in
from ckptaudit.records import dataclass, field

__all__ = ["Context", "Path", "Place", "Rules"]

Path = tuple[str, ...]

#: Where something was seen: the first atoms of both scopes. A scope does not bear witness for itself.
Place = tuple[int, int]

_SEVERAL: Place = (-1, -1)
_CONTRADICTED: Path = ("\0",)


class _Book:
    """Renames within one context, in both directions, and its numbered series."""

    __slots__ = ("back", "firm", "forth", "seen", "series")

    def __init__(self) -> None:
        self.forth: dict[Path, Path] = {}
        self.back: dict[Path, Path] = {}
        self.seen: dict[Path, Place] = {}
        self.firm: set[Path] = set()
        self.series: dict[Path, dict[tuple[Path, tuple[int, ...]], set[tuple[int, ...]]]] = {}

    def write(self, source: Path, target: Path, place: Place, *, firm: bool) -> None:
        if firm and source not in self.firm:
            self.firm.add(source)
            if self.forth.get(source, target) != target:
                del self.forth[source]  # what is forced overrides what only names and order said
        elif not firm and source in self.firm:
            return
        _set(self.forth, source, target)
        _set(self.back, target, source)
        if self.seen.setdefault(source, place) != place:
            self.seen[source] = _SEVERAL
        shift = shift_between(source, target)
        if shift:
            plain_source, plain_target = tuple(map(masked, source)), tuple(map(masked, target))
            self.series.setdefault(plain_source, {}).setdefault((plain_target, shift), set()).add(_numbers(source))

    def verdict(self, source: Path, target: Path, place: Place) -> int:
        forth, back = self.forth.get(source), self.back.get(target)
        if _CONTRADICTED in (forth, back):
            return 0
        if forth is not None and self.seen[source] != place:
            return 1 if forth == target else -1
        if back is not None and back != source and self.seen[back] != place:
            return -1
        following = self._following(source)
        if following is None:
            return 0
        plain_target, shift = following
        if tuple(map(masked, target)) != plain_target:
            return 0
        return 1 if shift_between(source, target) == shift else -1

    def expected(self, source: Path, place: Place) -> Path | None:
        """The target path of ``source``, seen itself or carried on from its series."""
        known = self.forth.get(source)
        if known is not None and self.seen[source] != place:
            return None if known == _CONTRADICTED else known
        following = self._following(source)
        return None if following is None else shifted(source, *following)

    def _following(self, source: Path) -> tuple[Path, tuple[int, ...]] | None:
        """Where others of the numbered series of ``source`` went: masked target path and shift, if two did and none elsewhere."""
        found = self.series.get(tuple(map(masked, source)))
        if found is None or len(found) != 1:
            return None
        [(where, seen)] = found.items()
        numbers = _numbers(source)
        others = seen - {numbers}
        if len(others) < 2:
            return None
        # Only where a number was seen to vary does a new number carry the series on.
        known = [{other[p] for other in others} for p in range(len(numbers))]
        return where if all(n in values or len(values) > 1 for n, values in zip(numbers, known, strict=True)) else None


@dataclass(frozen=True, slots=True)
class Context:
    """Where a rename holds: inside this pair of scopes, and in all that are like it.

    Attributes
    ----------
    paths:
        Paths of the two scopes with numbers masked.
    naming:
        Numbers of the two scopes' sets of relative names.
    names:
        Gives these sets themselves, which are large and seldom asked for.
    """

    paths: tuple[Path, Path]
    naming: tuple[int, int]
    names: tuple[Callable[[], frozenset[Path]], Callable[[], frozenset[Path]]] = field(compare=False)

    def within(self, other: Context) -> bool:
        """Whether the names of both scopes are among those of another context's."""
        return all(mine() <= theirs() for mine, theirs in zip(self.names, other.names, strict=True))


class Rules:
    """Renames learned so far, by context.

    What was learned in a scope holds in scopes with the same names, and in scopes of the same masked path whose names
    are a subset: there something is missing, but what is there is called the same.
    """

    def __init__(self) -> None:
        self._books: dict[tuple[int, int], _Book] = {}
        self._alike: dict[tuple[Path, Path], dict[tuple[int, int], Context]] = defaultdict(dict)
        self._found: dict[Context, list[_Book]] = {}

    def learn(self, context: Context, source: Path, target: Path, place: Place, *, firm: bool) -> None:
        """Record that in this context ``source`` became ``target``; ``firm`` when shapes alone forced it."""
        book = self._books.get(context.naming)
        if book is None:
            book = self._books[context.naming] = _Book()
        if self._alike[context.paths].setdefault(context.naming, context) is context:
            self._found.clear()
        book.write(source, target, place, firm=firm)

    def verdict(self, context: Context, source: Path, target: Path, place: Place, *, wide: bool) -> int:
        """1 when what was learned says that ``source`` becomes ``target``, -1 when it says otherwise, 0 when nothing is known.

        ``wide``: also ask scopes with more names, for here something is missing.
        """
        books = self._applying(context)
        first = books[0].verdict(source, target, place)
        if first or not wide:
            return first
        verdicts = {verdict for book in books[1:] if (verdict := book.verdict(source, target, place))}
        return verdicts.pop() if len(verdicts) == 1 else 0

    def expected(self, context: Context, source: Path, place: Place) -> Path | None:
        """The target path that what was learned in this context expects for ``source``."""
        expectations = {path for book in self._applying(context) if (path := book.expected(source, place)) is not None}
        return expectations.pop() if len(expectations) == 1 else None

    def _applying(self, context: Context) -> list[_Book]:
        """Books that hold in a context, its own first."""
        found = self._found.get(context)
        if found is None:
            own = self._books.get(context.naming)
            found = self._found[context] = [own or _Book()]
            for naming, other in self._alike.get(context.paths, {}).items():
                if naming != context.naming and context.within(other):
                    found.append(self._books[naming])
        return found


def _set(table: dict[Path, Path], name: Path, other: Path) -> None:
    if table.setdefault(name, other) != other:
        table[name] = _CONTRADICTED


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(n for segment in path for n in numbers_in(segment))


def shift_between(source: Path, target: Path) -> tuple[int, ...]:
    """Differences of the numbers in two paths; empty when they do not have equally many."""
    here, there = _numbers(source), _numbers(target)
    return tuple(b - a for a, b in zip(here, there, strict=True)) if len(here) == len(there) else ()


def shifted(source: Path, plain_target: Path, shift: tuple[int, ...]) -> Path:
    """The masked target path with the numbers of ``source``, each shifted."""
    numbers = iter(a + b for a, b in zip(_numbers(source), shift, strict=True))
    return tuple("".join(str(next(numbers)) if c == "#" else c for c in segment) for segment in plain_target)
