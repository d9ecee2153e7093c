"""What namesakes say: blocks of one kind are renamed alike, and their numbers shift alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import sub

from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.tree import masked_path
from ckptaudit.align.by_structure.words import NUMBER, numbers_in

__all__ = ["Namesakes"]

#: So many namesakes must be renamed alike, and so large a share of them, to support a pair; so many times as many to refute it.
_SUPPORT, _AGREEING, _OUTVOTED = 3, 0.8, 4

_Renaming = tuple[Path, tuple[int, ...]]
_Vote = tuple[Path, Path, tuple[int, ...] | None]


class Namesakes:
    """The renamings of many pairs of paths with their numbers masked, as votes on each of them."""

    def __init__(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        known = list(pairs)
        self._ballots = [_Ballot(known, only_segments=only) for only in (False, True)]

    def verdict(self, source: Path, target: Path) -> bool | None:
        """Whether namesakes on both sides agree with a pair; None where they say nothing."""
        return _summed_up(ballot.judged(ballot.vote(source, target)) for ballot in self._ballots)

    def verdicts(self) -> Iterator[bool | None]:
        """The same for each of the pairs that have voted, in their order."""
        return map(_summed_up, zip(*(map(ballot.judged, ballot.votes) for ballot in self._ballots), strict=True))


def _summed_up(verdicts: Iterable[bool | None]) -> bool | None:
    found = set(verdicts)
    return True if True in found else False if False in found else None


class _Ballot:
    """Votes with all numbers masked, or only those that are whole segments: ``layer#.#.bn#`` or ``layer3.#.bn1``."""

    def __init__(self, pairs: list[tuple[Path, Path]], *, only_segments: bool) -> None:
        self.only_segments = only_segments
        self.forth: dict[Path, Counter[_Renaming]] = defaultdict(Counter)
        self.back: dict[Path, Counter[_Renaming]] = defaultdict(Counter)
        self._judged: dict[_Vote, bool | None] = {}
        equal: dict[_Vote, _Vote] = {}  # blocks of one kind vote the same: one tuple for all
        self.votes = [equal.setdefault(vote, vote) for vote in (self.vote(*pair) for pair in pairs)]
        for (s, t, shift), count in Counter(self.votes).items():
            if shift is not None:
                self.forth[s][t, shift] += count
                self.back[t][s, shift] += count

    def vote(self, source: Path, target: Path) -> _Vote:
        """The renaming with its numbers masked, and their shift; None for that where they are not equally many."""
        (s, numbers), (t, others) = self._masked(source), self._masked(target)
        return s, t, tuple(map(sub, others, numbers)) if len(numbers) == len(others) else None

    def _masked(self, path: Path) -> tuple[Path, tuple[int, ...]]:
        if not self.only_segments:
            return masked_path(path), tuple(chain.from_iterable(map(numbers_in, path)))
        if not any(map(str.isdecimal, path)):
            return path, ()
        plain = tuple([NUMBER if segment.isdecimal() else segment for segment in path])
        return plain, tuple([int(segment) for segment in path if segment.isdecimal()])

    def judged(self, vote: _Vote) -> bool | None:
        """What all votes together say of one."""
        if vote not in self._judged:
            self._judged[vote] = self._outcome(*vote)
        return self._judged[vote]

    def _outcome(self, s: Path, t: Path, shift: tuple[int, ...] | None) -> bool | None:
        if shift is None:
            return None
        forth, back = self.forth[s], self.back[t]
        votes = forth[t, shift]
        if votes >= _SUPPORT and votes >= _AGREEING * max(forth.total(), back.total()):
            return True
        rivals = max(*(n for key, n in forth.items() if key != (t, shift)), *(n for key, n in back.items() if key != (s, shift)), 0, 0)
        return False if rivals >= _OUTVOTED * max(votes, 1) else None
