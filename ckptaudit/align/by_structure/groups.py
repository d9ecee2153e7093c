"""Step 7: who is who in a group of equal-shaped siblings, and how sure that is.

Members are compared by the words of their names that distinguish them inside the group, by the rank of their numbers, by
learned rules and by order. A pair is *ordered* only if against every other pair of the group some evidence holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise, product
from math import gcd

from ckptaudit.align.by_structure.assignment import best_assignment
from ckptaudit.align.by_structure.level import Level, Worth
from ckptaudit.align.by_structure.tree import Series
from ckptaudit.align.by_structure.words import POSITIONS, PROJECTIONS, numbers_in, tokens
from ckptaudit.records import dataclass, replace

__all__ = ["Match", "Member", "Surroundings", "resolve"]

#: Groups larger than this are joined by equal features; a cubic assignment would take too long.
_LARGE = 64

#: Words that say what kind of layer something is, not which one.
_KINDS = frozenset({"conv", "norm", "block", "project", "weight", "bias"})

#: Words of copies that are kept beside the model.
_COPIES = frozenset({"ema", "teacher", "shadow", "averaged", "average", "swa", "momentum", "target"})

Feature = str | int
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group: its path relative to the scope, its place in definition order, and the gap between anchors it lies in."""

    path: tuple[str, ...]
    order: int
    gap: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """Members that belong together: indices into both sides of the group."""

    source: int
    target: int
    level: Level
    evidence: tuple[str, ...]
    runner_up: int | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known around a group.

    Attributes
    ----------
    balanced:
        Both sides have equally many of these shapes in the whole scope, and none came back from an inner scope.
    uncertain:
        Some of these shapes went to places that are mere proposals: of what is left, only learned rules are sure.
    ordered:
        Definition order may be trusted on both sides.
    numbered:
        What the numbers in names are good for.
    rule:
        Verdict of the learned rules on two relative paths: 1, 0 or -1.
    series:
        The numbered series that the members of either side belong to, if it is one.
    """

    balanced: bool
    uncertain: bool
    ordered: bool
    numbered: Worth
    rule: Callable[[tuple[str, ...], tuple[str, ...]], int]
    series: tuple[Series, Series] | None = None


def resolve(sources: Sequence[Member], targets: Sequence[Member], around: Surroundings) -> list[Match]:
    """Pair the members of a group."""
    found = _resolved(sources, targets, around)
    if not around.uncertain:
        return found
    return [m if "learned rule" in m.evidence and len(m.evidence) == 1 else replace(m, level=Level.AMBIGUOUS) for m in found]


def _resolved(sources: Sequence[Member], targets: Sequence[Member], around: Surroundings) -> list[Match]:
    if len(sources) == 1 and len(targets) == 1:
        return [_lone(sources[0], targets[0], around)]
    if len(sources) == len(targets):
        return _EqualCounts(sources, targets, around).matches()
    return _unequal(sources, targets, around)


def _lone(source: Member, target: Member, around: Surroundings) -> Match:
    verdict = around.rule(source.path, target.path)
    if around.balanced and verdict >= 0:
        return Match(0, 0, Level.DECIDED, ("only one of this shape in its module",))
    if verdict > 0:
        return Match(0, 0, Level.ORDERED, ("learned rule",))
    if verdict == 0 and _significant(source) and _significant(source) == _significant(target):
        return Match(0, 0, Level.ORDERED, ("role words",))
    return Match(0, 0, Level.AMBIGUOUS, ("only one of this shape left in its module",))


# --- features ---------------------------------------------------------------------------------------------------------


def _words(member: Member) -> frozenset[str]:
    return frozenset(word for segment in member.path for word in tokens(segment) if not word.isdecimal())


def _numbers(member: Member) -> tuple[int, ...]:
    return tuple(number for segment in member.path for number in numbers_in(segment))


def _significant(member: Member) -> frozenset[str]:
    return _words(member) - _KINDS


def _features(
    sources: Sequence[Member], targets: Sequence[Member], *, numbered: bool
) -> tuple[list[frozenset[Feature]], list[frozenset[Feature]]]:
    """What distinguishes each member inside its side of the group: words that not all have, and the rank of its number.

    Ranks are taken among members with the same words, and only where both sides fall into such series of equal lengths:
    ``conv1..conv4`` says nothing of ``a_1, a_2, b_1, b_2``.
    """
    both = []
    placed = any(_placed(one) and _numbered(other) for one, other in ((sources, targets), (targets, sources)))
    for members in (sources, targets):
        named = [_name(member, placed=placed) for member in members]
        series: dict[frozenset[str], list[int]] = defaultdict(list)
        for i, (words, _) in enumerate(named):
            series[words].append(i)
        common = frozenset.intersection(*series)
        features: list[set[Feature]] = [set(words - common) for words, _ in named]
        both.append((named, features, list(series.values())))
    (names_here, here, series_here), (names_there, there, series_there) = both
    same = _same_series(names_here, series_here, names_there, series_there) if numbered else []
    for number, (indices, others) in enumerate(same):
        for names, features, run in ((names_here, here, indices), (names_there, there, others)):
            ranks = {numbers: rank for rank, numbers in enumerate(sorted({names[i][1] for i in run}))}
            for i in run:
                if len(ranks) > 1:
                    features[i].add(number * 10_000 + ranks[names[i][1]])
    return [frozenset(f) for f in here], [frozenset(f) for f in there]


_Names = list[tuple[frozenset[str], tuple[int, ...]]]


def _same_series(
    here: _Names, series_here: list[list[int]], there: _Names, series_there: list[list[int]]
) -> list[tuple[list[int], list[int]]]:
    """Numbered series that correspond: equal lengths throughout, and, where there are several, words in common."""
    if sorted(map(len, series_here)) != sorted(map(len, series_there)):
        return []
    if len(series_here) == 1:
        return [(series_here[0], series_there[0])]
    likely = sorted(
        (
            (-_likeness(here[a[0]][0], there[b[0]][0]), x, y)
            for x, a in enumerate(series_here)
            for y, b in enumerate(series_there)
            if len(a) == len(b)
        )
    )
    found: dict[int, int] = {}
    for unlikeness, x, y in likely:
        if unlikeness < 0 and x not in found and y not in found.values():
            found[x] = y
    return [(series_here[x], series_there[y]) for x, y in found.items()]


def _placed(members: Sequence[Member]) -> bool:
    return frozenset[str]().union(*map(_words, members)) >= POSITIONS.keys()


def _numbered(members: Sequence[Member]) -> bool:
    return len({_words(member) for member in members}) == 1


def _name(member: Member, *, placed: bool) -> tuple[frozenset[str], tuple[int, ...]]:
    """Words and numbers of a member; ``before`` and ``after`` count as numbers where ``placed``."""
    words, numbers = _words(member), _numbers(member)
    places = words & POSITIONS.keys() if placed else frozenset()
    return words - places, (*numbers, *(POSITIONS[place] for place in places))


def _likeness(a: frozenset[Feature], b: frozenset[Feature]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


# --- equal counts -----------------------------------------------------------------------------------------------------


class _EqualCounts:
    """A group with equally many members on both sides."""

    def __init__(self, sources: Sequence[Member], targets: Sequence[Member], around: Surroundings) -> None:
        self.sources, self.targets, self.around = sources, targets, around
        self.here, self.there = _features(sources, targets, numbered=around.numbered > Worth.NOTHING)
        self.named = _telling(self.here, self.there)

    def matches(self) -> list[Match]:
        size = len(self.sources)
        if size > _LARGE:
            return self._joined()
        rules = [[self.around.rule(s.path, t.path) for t in self.targets] for s in self.sources]
        if len(self.named) == size and not any(rules[i][j] < 0 for i, j in self.named.items()):
            pairs = sorted(self.named.items())
        else:
            pairs = best_assignment(self._scores(rules))
        self._leave_numbers()
        return [self._graded(i, j, pairs, rules) for i, j in pairs]

    def _leave_numbers(self) -> None:
        """Grade by words alone what numbers may have proposed, where these are no evidence."""
        if self.around.numbered == Worth.PROPOSAL:
            self.here, self.there = _worded(self.here), _worded(self.there)
            self.named = _telling(self.here, self.there)

    def _joined(self) -> list[Match]:
        pairs = [Match(i, j, self._level(), ("same words and numbers",)) for i, j in self.named.items()]
        rest_here = [i for i in range(len(self.sources)) if i not in self.named]
        taken = set(self.named.values())
        rest_there = [j for j in range(len(self.targets)) if j not in taken]
        pairs += [Match(i, j, Level.AMBIGUOUS, ("order",)) for i, j in zip(rest_here, rest_there, strict=True)]
        return pairs

    def _level(self) -> Level:
        return Level.ORDERED if self.around.balanced and self.around.numbered != Worth.PROPOSAL else Level.AMBIGUOUS

    def _scores(self, rules: list[list[int]]) -> list[list[float]]:
        rank_here, rank_there = _ranks(self.sources), _ranks(self.targets)
        prior = 0.05 / len(self.sources) if self.around.ordered else 1e-4
        # Norms that one side lists before and the other after what they norm lie in other gaps: then their order says more.
        gaps = self.around.ordered and sorted(s.gap for s in self.sources) == sorted(t.gap for t in self.targets)
        parts = _parts(self.sources, self.targets) or _parts(self.targets, self.sources)
        return [
            [
                _likeness(self.here[i], self.there[j])
                + 4 * rules[i][j]
                - prior * abs(rank_here[i] - rank_there[j])
                - (0.1 if gaps and s.gap != t.gap else 0.0)
                + (0.2 if parts and parts.get(s.path, 0) == parts.get(t.path, 1) else 0.0)
                for j, t in enumerate(self.targets)
            ]
            for i, s in enumerate(self.sources)
        ]

    def _graded(self, i: int, j: int, pairs: list[tuple[int, int]], rules: list[list[int]]) -> Match:
        evidence: set[str] = set()
        runner, least = None, float("inf")
        sure = rules[i][j] >= 0
        for k, m in pairs:
            if k == i:
                continue
            why, margin = self._against(i, j, k, m, rules)
            evidence.add(why)
            if margin < least:
                least, runner = margin, k
            sure = sure and bool(why)
        evidence.discard("")
        if sure and not self.around.balanced and rules[i][j] <= 0:
            sure = self.named.get(i) == j and bool({f for f in self.here[i] & self.there[j] if isinstance(f, str)} - _KINDS)
        if not sure:
            return Match(i, j, Level.AMBIGUOUS, tuple(sorted(evidence)) or ("order",), runner)
        return Match(i, j, Level.ORDERED, tuple(sorted(evidence)), runner)

    def _against(self, i: int, j: int, k: int, m: int, rules: list[list[int]]) -> tuple[str, float]:
        """Why the pair (i, j) holds against (k, m), ``""`` when nothing says so; and how much a swap would lose."""
        here, there = self.here, self.there
        loss = _likeness(here[i], there[j]) + _likeness(here[k], there[m]) - _likeness(here[i], there[m]) - _likeness(here[k], there[j])
        if rules[i][j] > 0 or rules[k][m] > 0:
            return "learned rule", 4 + loss
        if self.named.get(i) == j or self.named.get(k) == m:
            return "role words", 2 + loss
        if not self.around.ordered:
            return "", loss
        s, t = self.sources, self.targets
        if loss > 1e-9 and (s[i].order < s[k].order) == (t[j].order < t[m].order):
            return "role words and order", loss
        if loss >= 0 and s[i].gap == t[j].gap and s[k].gap == t[m].gap and s[i].gap != s[k].gap:
            return "neighbours", loss
        return "", loss


def _worded(side: list[frozenset[Feature]]) -> list[frozenset[Feature]]:
    return [frozenset(feature for feature in features if isinstance(feature, str)) for features in side]


def _telling(here: list[frozenset[Feature]], there: list[frozenset[Feature]]) -> dict[int, int]:
    """Members that share a feature, or their whole set of features, which no other member of the group has."""
    votes: dict[int, set[int]] = defaultdict(set)
    back: dict[int, set[int]] = defaultdict(set)
    whole: list[list[frozenset[Hashable]]] = [[frozenset((f,)) if f else frozenset() for f in side] for side in (here, there)]
    for sides in ((here, there), whole):
        first, second = ({f: i for i, features in enumerate(side) for f in features} for side in sides)
        counts = [Counter(f for features in side for f in features) for side in sides]
        for feature in first.keys() & second.keys():
            if counts[0][feature] == counts[1][feature] == 1 and feature not in _KINDS:
                votes[first[feature]].add(second[feature])
                back[second[feature]].add(first[feature])
    return {i: next(iter(js)) for i, js in votes.items() if len(js) == 1 and len(back[next(iter(js))]) == 1}


def _parts(named: Sequence[Member], numbered: Sequence[Member]) -> dict[Path, int]:
    """Which part each member is, where one side says query, key and value and the other merely numbers three parts of one.

    A guess and no evidence: whoever fuses them may also interleave their heads.
    """
    said = {m.path: PROJECTIONS[word] for m in named for word in _words(m) & PROJECTIONS.keys()}
    counted = {m.path: int(m.path[-1]) for m in numbered if m.path and m.path[-1].isdecimal()}
    both = sorted(said.values()) == sorted(counted.values()) == sorted(PROJECTIONS.values())
    return said | counted if both and len({path[:-1] for path in counted}) == 1 else {}


def _ranks(members: Sequence[Member]) -> list[int]:
    ranks = [0] * len(members)
    for rank, i in enumerate(sorted(range(len(members)), key=lambda i: members[i].order)):
        ranks[i] = rank
    return ranks


# --- unequal counts ---------------------------------------------------------------------------------------------------


def _unequal(sources: Sequence[Member], targets: Sequence[Member], around: Surroundings) -> list[Match]:
    found: dict[int, Match] = {}
    taken: set[int] = set()
    by_index = _by_index(sources, targets, around.series) if around.numbered == Worth.EVIDENCE else []
    for match in (*_by_rule(sources, targets, around), *by_index, *_by_word(sources, targets)):
        free = match.source not in found and match.target not in taken
        if free and around.rule(sources[match.source].path, targets[match.target].path) >= 0:
            found[match.source] = match
            taken.add(match.target)
    rest = [i for i in range(len(sources)) if i not in found], [j for j in range(len(targets)) if j not in taken]
    return [*found.values(), *_guessed(sources, targets, rest, around)]


def _by_rule(sources: Sequence[Member], targets: Sequence[Member], around: Surroundings) -> list[Match]:
    if len(sources) * len(targets) > _LARGE**2:
        return []
    favoured = [(i, j) for i, s in enumerate(sources) for j, t in enumerate(targets) if around.rule(s.path, t.path) > 0]
    here, there = Counter(i for i, _ in favoured), Counter(j for _, j in favoured)
    return [Match(i, j, Level.ORDERED, ("learned rule",)) for i, j in favoured if here[i] == there[j] == 1]


def _by_index(sources: Sequence[Member], targets: Sequence[Member], series: tuple[Series, Series] | None) -> list[Match]:
    """Numbered series whose numbers fit at one shift only, or at one of (0, ±1) at each place where their beginnings say so."""
    if len({_words(s) for s in sources}) > 1 or len({_words(t) for t in targets}) > 1:
        return []
    here, there = _comparable_numbers([_numbers(s) for s in sources], [_numbers(t) for t in targets])
    if not here or len(set(here)) < len(here) or len(set(there)) < len(there):
        return []
    by_number = {numbers: j for j, numbers in enumerate(there)}
    varying = [len({n[p] for n in here}) > 1 or len({n[p] for n in there}) > 1 for p in range(len(here[0]))]
    if sum(varying) > 2:
        return []
    fewer = min(len(here), len(there))
    fitting = []
    for shift in product(*((0, 1, -1) if v else (there[0][p] - here[0][p],) for p, v in enumerate(varying))):
        pairs = [
            (i, by_number[moved]) for i, n in enumerate(here) if (moved := tuple(a + b for a, b in zip(n, shift, strict=True))) in by_number
        ]
        if len(pairs) == fewer:
            fitting.append((sum(shift[p] for p, v in enumerate(varying) if v), pairs))
    if not fitting:
        return []
    moved_by, proposed = fitting[0]
    told = series is not None and (
        _count_from_zero(sources, series) or (len(fitting) == 1 and min(series[1].numbers) - min(series[0].numbers) == moved_by)
    )
    sure = fewer > 1 and (told or _fits_once(here, there)) and not _strided(min(here, there, key=len))
    if not sure and len(_numbers(sources[0])) != len(_numbers(targets[0])):
        return []
    return [Match(i, j, Level.ORDERED if sure else Level.AMBIGUOUS, ("same index",)) for i, j in proposed]


_Indices = list[tuple[int, ...]]


def _fits_once(here: _Indices, there: _Indices) -> bool:
    """Whether the numbers of the smaller side are all among the other's when shifted in one way alone, however far."""
    fewer, more = sorted((here, there), key=len)
    first, *others = sorted(fewer)
    others.reverse()  # the last number leaves the other side first
    known, fits = set(more), 0
    for start in more:
        shift = [a - b for a, b in zip(start, first, strict=True)]
        fits += all(tuple(a + b for a, b in zip(numbers, shift, strict=True)) in known for numbers in others)
        if fits > 1:
            return False
    return fits == 1


def _strided(numbers: _Indices) -> bool:
    """Whether three numbers or more are multiples apart: every other place of a list may be taken by what holds no tensor."""
    apart = [b - a for column in zip(*numbers, strict=True) for a, b in pairwise(sorted(column))]
    return len(numbers) > 2 and gcd(*apart) > 1


def _comparable_numbers(here: _Indices, there: _Indices) -> tuple[_Indices, _Indices]:
    """Equally many numbers for all members of both sides: all, or those that vary where only some count (``data2vec.layer.3``); or none."""
    if len(set(map(len, here + there))) == 1:
        return (here, there) if here[0] else ([], [])
    if any(len(set(map(len, side))) > 1 for side in (here, there)):
        return [], []
    here, there = ([tuple(n) for n in zip(*(p for p in zip(*side, strict=True) if len(set(p)) > 1), strict=True)] for side in (here, there))
    return (here, there) if here and there and len(here[0]) == len(there[0]) else ([], [])


def _count_from_zero(sources: Sequence[Member], series: tuple[Series, Series]) -> bool:
    """Whether the target's series counts from 0, and the source's did so before it lost some: its 0 is there, or it is a list.

    What is a number and nothing else is a place in a list, and these count from 0; ``layer_1`` may be the first. A model that was built has
    lost nothing: where it is the one with fewer blocks, which of the others it lacks is open.
    """
    mine, theirs = series
    if not (mine.stack and theirs.stack and mine.numbers < theirs.numbers == set(range(len(theirs.numbers)))):
        return False
    # The outermost segments that differ between members.
    segments = next(found for found in zip(*(member.path for member in sources), strict=False) if len(set(found)) > 1)
    return 0 in mine.numbers or all(map(str.isdecimal, segments))


def _by_word(sources: Sequence[Member], targets: Sequence[Member]) -> list[Match]:
    """Members whose telling words are equal and occur once on each side."""
    here, there = Counter(map(_significant, sources)), Counter(map(_significant, targets))
    by_words = {_significant(t): j for j, t in enumerate(targets)}
    return [
        Match(i, by_words[words], Level.ORDERED, ("role words",))
        for i, s in enumerate(sources)
        if (words := _significant(s)) and here[words] == there[words] == 1
    ]


def _guessed(sources: Sequence[Member], targets: Sequence[Member], rest: tuple[list[int], list[int]], around: Surroundings) -> list[Match]:
    """Proposals by likeness and order, none of them sure."""
    here, there = rest
    here = sorted(here, key=lambda i: (bool(_words(sources[i]) & _COPIES), i))
    there = sorted(there, key=lambda j: (bool(_words(targets[j]) & _COPIES), j))
    if not here or not there:
        return []
    if max(len(here), len(there)) > _LARGE:
        return [Match(i, j, Level.AMBIGUOUS, ("order",)) for i, j in zip(here, there, strict=False)]
    scores = [
        [
            _likeness(frozenset(_words(sources[i])), frozenset(_words(targets[j])))
            + 4 * around.rule(sources[i].path, targets[j].path)
            + (0.5 if _numbers(sources[i]) == _numbers(targets[j]) else 0.0)
            - 0.01 * abs(a - b)
            - 0.2 * (sources[i].gap != targets[j].gap)
            for b, j in enumerate(there)
        ]
        for a, i in enumerate(here)
    ]
    found = []
    for a, b in best_assignment(scores):
        others = [c for c in range(len(here)) if c != a]
        runner = max(others, key=lambda c: scores[c][b], default=None)
        found.append(Match(here[a], there[b], Level.AMBIGUOUS, ("order",), None if runner is None else here[runner]))
    return found
