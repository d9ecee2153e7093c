"""What namesakes say: blocks of one kind are renamed alike, and their numbers shift alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.tree import masked_path
from ckptaudit.align.by_structure.words import NUMBER, numbers_in

__all__ = ["Namesakes"]

#: So many namesakes must be renamed alike, and so large a share of them, to support a pair; so many times as many to refute it.
_SUPPORT, _AGREEING, _OUTVOTED = 3, 0.8, 4

_Renaming = tuple[Path, tuple[int, ...]]


class Namesakes:
    """The renamings of many pairs of paths with their numbers masked, as votes on each of them."""

    def __init__(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        known = list(pairs)
        self._ballots = [_Ballot(known, only_segments=only) for only in (False, True)]

    def verdict(self, source: Path, target: Path) -> bool | None:
        """Whether namesakes on both sides agree with a pair; None where they say nothing."""
        verdicts = {ballot.verdict(source, target) for ballot in self._ballots}
        return True if True in verdicts else False if False in verdicts else None


class _Ballot:
    """Votes with all numbers masked, or only those that are whole segments: ``layer#.#.bn#`` or ``layer3.#.bn1``."""

    def __init__(self, pairs: list[tuple[Path, Path]], *, only_segments: bool) -> None:
        self.only_segments = only_segments
        self.forth: dict[Path, Counter[_Renaming]] = defaultdict(Counter)
        self.back: dict[Path, Counter[_Renaming]] = defaultdict(Counter)
        for source, target in pairs:
            s, t, shift = self._renaming(source, target)
            if shift is not None:
                self.forth[s][t, shift] += 1
                self.back[t][s, shift] += 1

    def _renaming(self, source: Path, target: Path) -> tuple[Path, Path, tuple[int, ...] | None]:
        (s, numbers), (t, others) = self._masked(source), self._masked(target)
        return s, t, tuple(b - a for a, b in zip(numbers, others, strict=True)) if len(numbers) == len(others) else None

    def _masked(self, path: Path) -> tuple[Path, tuple[int, ...]]:
        if not self.only_segments:
            return masked_path(path), tuple(n for segment in path for n in numbers_in(segment))
        plain = tuple(NUMBER if segment.isdecimal() else segment for segment in path)
        return plain, tuple(int(segment) for segment in path if segment.isdecimal())

    def verdict(self, source: Path, target: Path) -> bool | None:
        s, t, shift = self._renaming(source, target)
        if shift is None:
            return None
        forth, back = self.forth[s], self.back[t]
        votes = forth[t, shift]
        if votes >= _SUPPORT and votes >= _AGREEING * max(forth.total(), back.total()):
            return True
        rivals = max(*(n for key, n in forth.items() if key != (t, shift)), *(n for key, n in back.items() if key != (s, shift)), 0, 0)
        return False if rivals >= _OUTVOTED * max(votes, 1) else None
