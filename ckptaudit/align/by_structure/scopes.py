"""Steps 4 and 5: match two scopes, largest content first, and resolve what is in them.

Containers correspond when the same shapes lie below them, whatever their names and nesting. A group of containers is
committed when it *covers*: some key in it occurs nowhere else in either scope. Inside a committed pair the same is done
again; what stays unmatched rises to the scope around it.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise

from ckptaudit.align.by_structure.groups import Match, Member, Surroundings, resolve
from ckptaudit.align.by_structure.level import Level, Worth
from ckptaudit.align.by_structure.rules import Context, Path, Rules
from ckptaudit.align.by_structure.tree import Forest, Node, masked_path
from ckptaudit.records import dataclass, field, replace

__all__ = ["AGREEING", "AtomPair", "Inner", "Solution", "Solver", "context_of"]

_MASK = (1 << 61) - 1

#: Order is trusted while at least this share of neighbouring anchors agree.
AGREEING = 0.85

#: A damaged container must hold at least this share of what its counterpart holds.
_OVERLAP = 0.5

#: … and this share, to be taken for one that lacks something where another container is its equal.
_CLEAR_OVERLAP = 0.6

_STRICT, _SKELETON, _FLAT = range(3)


@dataclass(frozen=True, slots=True)
class AtomPair:
    """Two atoms that belong together, by their numbers relative to the scope."""

    source: int
    target: int
    level: Level
    evidence: tuple[str, ...]
    runner_up: int | None = None


@dataclass(frozen=True, slots=True)
class Inner:
    """A pair of containers inside a scope: where each begins, how sure that is, how many atoms they have, what was found inside."""

    source: int
    target: int
    level: Level
    evidence: tuple[str, ...]
    names: tuple[Path, Path]
    context: Context
    solution: Solution
    sizes: tuple[int, int]


@dataclass(slots=True)
class Solution:
    """What was found in a scope. Numbers of atoms count from the scope's first, so that equal scopes share one solution."""

    pairs: list[AtomPair] = field(default_factory=list)
    inner: list[Inner] = field(default_factory=list)
    left_source: list[int] = field(default_factory=list)
    left_target: list[int] = field(default_factory=list)


class Solver:
    """Matches scopes of two forests under given rules; equal pairs of scopes are solved once."""

    def __init__(self, source: Forest, target: Forest, rules: Rules, *, ordered: bool, numbered: Worth) -> None:
        self.source, self.target, self.rules, self.ordered, self.numbered = source, target, rules, ordered, numbered
        self._memo: dict[Hashable, Solution] = {}

    def solve(self, a: Node, b: Node) -> Solution:
        """Match what is below two containers."""
        key = (a.build, b.build, context_of(self.source, self.target, a, b))
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = _Scope(self, a, b).run()
        return known


def context_of(source: Forest, target: Forest, a: Node, b: Node) -> Context:
    """Context in which renames inside this pair of containers hold."""
    paths = masked_path(a.path), masked_path(b.path)
    return Context(paths, (a.naming, b.naming), (partial(source.names, a), partial(target.names, b)))


class _Scope:
    """One pair of containers while it is being solved."""

    def __init__(self, solver: Solver, a: Node, b: Node) -> None:
        self.solver, self.a, self.b = solver, a, b
        self.context = context_of(solver.source, solver.target, a, b)
        self.place = (a.low, b.low)
        self.found = Solution()
        self.claimed_source, self.claimed_target = bytearray(a.high - a.low), bytearray(b.high - b.low)
        self.anchors: list[tuple[int, int]] = []
        self.uncertain: set[int] = set()  # keys of atoms that went to places which are mere proposals
        self.tainted: set[int] = set()  # these, and keys of atoms that came back from inner scopes

    # --- the steps ----------------------------------------------------------------------------------------------------

    def run(self) -> Solution:
        for kind in (_STRICT, _SKELETON):
            self._containers(kind)
        self._damaged()
        for kind in (_STRICT, _SKELETON, _FLAT):
            self._atoms(kind)
        self.found.left_source = [i for i, claimed in enumerate(self.claimed_source) if not claimed]
        self.found.left_target = [i for i, claimed in enumerate(self.claimed_target) if not claimed]
        return self.found

    # --- containers ---------------------------------------------------------------------------------------------------

    def _containers(self, kind: int) -> None:
        level = _Level(self, kind)
        if not level.live:
            return
        heaps = level.source.heap(self.a), level.target.heap(self.b)
        while heaps[0] or heaps[1]:
            top_source = -heaps[0][0][0] if heaps[0] else 0
            top_target = -heaps[1][0][0] if heaps[1] else 0
            if top_source != top_target:
                level.open_top(heaps[0], level.source) if top_source > top_target else level.open_top(heaps[1], level.target)
                continue
            size = top_source
            here, there = level.source.pop_all(heaps[0], size), level.target.pop_all(heaps[1], size)
            alone = sorted(dict.fromkeys((*here, *there)), key=lambda c: len(here.get(c, ())) + len(there.get(c, ())))
            for content in alone:  # what has one counterpart first: it anchors the others
                sources, targets = here.get(content, []), there.get(content, [])
                if sources and targets and self._untouched(sources, targets) and level.covers(sources, targets):
                    self._commit(sources, targets, level, kind)
                    continue
                for node in sources:
                    level.source.open(node, heaps[0])
                for node in targets:
                    level.target.open(node, heaps[1])

    def _untouched(self, sources: list[Node], targets: list[Node]) -> bool:
        """Whether nothing in these containers has found its counterpart yet."""
        here, there = self.claimed_source, self.claimed_target
        return not any(self._busy(here, s, self.a) for s in sources) and not any(self._busy(there, t, self.b) for t in targets)

    def _commit(self, sources: list[Node], targets: list[Node], level: _Level, kind: int) -> None:
        balanced = level.balanced(sources, targets)
        mended = len(sources) != len(targets)
        if mended:
            sources, targets = self._with_damaged(sources, targets)
            balanced = len(sources) == len(targets)
        here = [self._member(node, self.a) for node in sources]
        there = [self._member(node, self.b) for node in targets]
        content = self.solver.source.keys[kind][sources[0].low : sources[0].high]
        uncertain = mended and not self.uncertain.isdisjoint(content)
        for match in resolve(here, there, self._surroundings(balanced, (sources, targets), uncertain=uncertain)):
            s, t = sources[match.source], targets[match.target]
            if mended and (match.level == Level.DECIDED or not self._contained(s, t)):
                match = replace(match, level=Level.ORDERED if self._contained(s, t) else Level.AMBIGUOUS)  # noqa: PLW2901
            if kind == _STRICT and match.level and not level.all_equal(s):
                s, t, match = self._lifted(s, t, match)  # noqa: PLW2901
            if self._untouched([s], [t]):
                self._pair_containers(s, t, match)

    def _lifted(self, s: Node, t: Node, match: Match) -> tuple[Node, Node, Match]:
        """A pair of equal containers, or the larger container around one of them where something of the other may be missing.

        ``attention.{q, k, out}``, which has lost its ``v``, equals ``attention.self.{q, k, v}``, but is ``attention``.
        """
        around = t.parent
        while around is not None and around is not self.b and around is not unwrapped(self.b) and _comparable(s, around):
            outer = s.parent
            nested = outer is not None and outer is not self.a and self._contained(outer, around)
            if not nested and around.high - around.low > t.high - t.low and self._contained(s, around) and self._untouched([], [around]):
                if self._overlap(s, around) < _CLEAR_OVERLAP:
                    return s, t, replace(match, level=Level.AMBIGUOUS)
                return s, around, replace(match, level=min(match.level, Level.ORDERED))
            around = around.parent
        return s, t, match

    def _pair_containers(self, s: Node, t: Node, match: Match) -> None:
        if s.atom >= 0 and t.atom >= 0:
            self._claim(s.low, t.low, match.level, match.evidence, None)
            return
        names = s.below(self.a), t.below(self.b)
        solution = self.solver.solve(s, t)
        context = context_of(self.solver.source, self.solver.target, s, t)
        begin, sizes = (s.low - self.a.low, t.low - self.b.low), (s.high - s.low, t.high - t.low)
        self.found.inner.append(Inner(*begin, match.level, match.evidence, names, context, solution, sizes))
        self._consume(self.claimed_source, s, self.a, solution.left_source)
        self._consume(self.claimed_target, t, self.b, solution.left_target)
        for mine, theirs in zip(self.solver.source.keys, self.solver.target.keys, strict=True):
            self.tainted.update(mine[s.low + i] for i in solution.left_source)
            self.tainted.update(theirs[t.low + i] for i in solution.left_target)
            if match.level == Level.AMBIGUOUS:
                self.uncertain.update(mine[s.low : s.high], theirs[t.low : t.high])
        self.tainted |= self.uncertain
        if match.level > Level.AMBIGUOUS:
            self.anchors.append((self._order(self.solver.source, s.low), self._order(self.solver.target, t.low)))

    @staticmethod
    def _consume(claimed: bytearray, node: Node, scope: Node, left: Iterable[int]) -> None:
        low = node.low - scope.low
        claimed[low : low + node.high - node.low] = b"\1" * (node.high - node.low)
        for i in left:
            claimed[low + i] = 0

    def _with_damaged(self, sources: list[Node], targets: list[Node]) -> tuple[list[Node], list[Node]]:
        """A group of unequal counts, with those numbered siblings on either side that lack something of what the group has."""
        family_here = self._family(sources, self.a, self.claimed_source)
        family_there = self._family(targets, self.b, self.claimed_target)
        wider_here = [node for node in family_here if node in sources or self._clearly_contained(node, targets[0])]
        wider_there = [
            node for node in family_there if node in targets or any(self._clearly_contained(other, node) for other in wider_here)
        ]
        return wider_here, wider_there

    def _family(self, nodes: list[Node], scope: Node, claimed: bytearray) -> list[Node]:
        """Free nodes whose path differs from one of these in numbers only; these themselves if they have no number."""
        plain_paths = dict.fromkeys(masked_path(n.below(scope)) for n in nodes)
        siblings = (node for plain in plain_paths for node in nodes_at(scope, plain))
        free = (node for node in siblings if node.atom < 0 and not self._busy(claimed, node, scope))
        return sorted({id(node): node for node in (*nodes, *free)}.values(), key=lambda node: node.low)

    def _contained(self, s: Node, t: Node) -> bool:
        """Whether one container holds all that the other does, and not much more."""
        if not _comparable(s, t):  # counting what a large container holds, for each small one, would take quadratic time
            return False
        return self._shared(s, t) == min(s.high - s.low, t.high - t.low) and self._overlap(s, t) >= _OVERLAP

    def _clearly_contained(self, s: Node, t: Node) -> bool:
        return self._contained(s, t) and self._overlap(s, t) >= _CLEAR_OVERLAP

    def _overlap(self, s: Node, t: Node) -> float:
        return self._shared(s, t) / max(s.high - s.low, t.high - t.low)

    def _shared(self, s: Node, t: Node) -> int:
        here = Counter(self.solver.source.keys[_STRICT][s.low : s.high])
        there = Counter(self.solver.target.keys[_STRICT][t.low : t.high])
        return (here & there).total()

    # --- damaged containers -------------------------------------------------------------------------------------------

    def _damaged(self) -> None:
        """Pair containers whose contents differ where siblings of theirs, or earlier passes, tell which belongs to which."""
        if all(self.claimed_source) or all(self.claimed_target):
            return
        local = Rules()
        for inner in self.found.inner:
            if inner.level > Level.AMBIGUOUS:
                local.learn(self.context, *inner.names, self.place, firm=False)
        queue = [child for child in unwrapped(self.a).children if child.segment]
        while queue:
            node = queue.pop(0)
            if node.atom >= 0 or self._busy(self.claimed_source, node, self.a) == node.high - node.low:
                continue
            path = node.below(self.a)
            expected = local.expected(self.context, path, self.place) or self.solver.rules.expected(self.context, path, self.place)
            other = self._target_at(expected) if expected else None
            if other is not None and other.atom < 0 and self._fits(node, other):
                self._pair_containers(*self._lifted(node, other, Match(0, 0, Level.ORDERED, ("same index as its siblings",))))
            else:
                queue.extend(child for child in node.children if child.segment)

    def _target_at(self, path: Path) -> Node | None:
        """The target container at a relative path."""
        node: Node | None = unwrapped(self.b)
        for segment in path:
            node = next((child for child in node.children if child.segment == segment), None) if node else None
        return node

    def _fits(self, s: Node, t: Node) -> bool:
        if self._busy(self.claimed_source, s, self.a) or self._busy(self.claimed_target, t, self.b):
            return False
        return _comparable(s, t) and self._overlap(s, t) >= _OVERLAP

    @staticmethod
    def _busy(claimed: bytearray, node: Node, scope: Node) -> int:
        return claimed.count(1, node.low - scope.low, node.high - scope.low)

    # --- atoms --------------------------------------------------------------------------------------------------------

    def _atoms(self, kind: int) -> None:
        here, there = (
            self._free(self.solver.source, self.claimed_source, self.a, kind),
            self._free(self.solver.target, self.claimed_target, self.b, kind),
        )
        keys = [key for key in here if key in there]
        for single in (True, False):
            for key in keys:
                sources, targets = here[key], there[key]
                if (len(sources) == len(targets) == 1) == single:
                    self._pair_atoms(sources, targets, key, kind)

    def _balanced(self, key: int, kind: int, equal: bool) -> bool:
        """Whether both sides have equally many atoms of a key, here and in the whole scope."""
        if not equal or key in self.tainted:
            return False
        here, there = self.solver.source.keys[kind], self.solver.target.keys[kind]
        return here[self.a.low : self.a.high].count(key) == there[self.b.low : self.b.high].count(key)

    def _pair_atoms(self, sources: list[int], targets: list[int], key: int, kind: int) -> None:
        balanced = self._balanced(key, kind, len(sources) == len(targets))
        trees = self.solver.source, self.solver.target
        inner = self.a.parent is not None
        groups = [trees[0].atoms[i] for i in sources], [trees[1].atoms[j] for j in targets]
        here, there = ([self._member(node, scope) for node in group] for group, scope in zip(groups, (self.a, self.b), strict=True))
        for match in resolve(here, there, self._surroundings(balanced, groups, uncertain=key in self.uncertain)):
            if kind != _STRICT and inner and match.level == Level.AMBIGUOUS:
                continue
            runner = None if match.runner_up is None else sources[match.runner_up]
            evidence = match.evidence if kind == _STRICT else (*match.evidence, _KIND_EVIDENCE[kind])
            level = match.level if kind == _STRICT else min(match.level, Level.ORDERED)
            self._claim(sources[match.source], targets[match.target], level, evidence, runner)

    def _claim(self, s: int, t: int, level: Level, evidence: tuple[str, ...], runner: int | None) -> None:
        relative = None if runner is None else runner - self.a.low
        self.found.pairs.append(AtomPair(s - self.a.low, t - self.b.low, level, evidence, relative))
        self.claimed_source[s - self.a.low] = self.claimed_target[t - self.b.low] = 1
        if level > Level.AMBIGUOUS:
            self.anchors.append((self._order(self.solver.source, s), self._order(self.solver.target, t)))
            return
        for mine, theirs in zip(self.solver.source.keys, self.solver.target.keys, strict=True):
            self.uncertain.update((mine[s], theirs[t]))
        self.tainted |= self.uncertain

    @staticmethod
    def _free(forest: Forest, claimed: bytearray, scope: Node, kind: int) -> dict[int, list[int]]:
        keys, free = forest.keys[kind], defaultdict(list)
        for i in range(scope.low, scope.high):
            if not claimed[i - scope.low] and keys[i]:
                free[keys[i]].append(i)
        return free

    # --- surroundings -------------------------------------------------------------------------------------------------

    @staticmethod
    def _order(forest: Forest, atom: int) -> int:
        return forest.items[atom][0].order

    def _member(self, node: Node, scope: Node) -> Member:
        source = scope is self.a
        forest = self.solver.source if source else self.solver.target
        order = self._order(forest, node.low)
        return Member(node.below(scope), order, self._gap(order, source))

    def _gap(self, order: int, source: bool) -> int:
        run = self._run()
        return bisect_right([pair[0 if source else 1] for pair in run], order)

    def _run(self) -> list[tuple[int, int]]:
        """Anchors that are in order on both sides: the longest increasing run."""
        if getattr(self, "_run_of", -1) != len(self.anchors):
            self._run_of, self._run_known = len(self.anchors), _longest_run(sorted(self.anchors))
        return self._run_known

    def _surroundings(self, balanced: bool, groups: tuple[Sequence[Node], Sequence[Node]], *, uncertain: bool) -> Surroundings:
        def rule(source: Path, target: Path) -> int:
            return self.solver.rules.verdict(self.context, source, target, self.place, wide=not balanced)

        series = None
        if len(groups[0]) != len(groups[1]):
            found = self.solver.source.series(groups[0]), self.solver.target.series(groups[1])
            series = (found[0], found[1]) if found[0] and found[1] else None
        return Surroundings(balanced, uncertain, self.solver.ordered and self._in_order(), self.solver.numbered, rule, series)

    def _in_order(self) -> bool:
        if len(self.anchors) < 4:
            return True
        anchors = sorted(self.anchors)
        agreeing = sum(p[1] < q[1] for p, q in pairwise(anchors))
        return agreeing >= AGREEING * (len(anchors) - 1)


def _comparable(s: Node, t: Node) -> bool:
    """Whether two containers are near enough in size that one may be the other with something missing."""
    here, there = s.high - s.low, t.high - t.low
    return min(here, there) >= _OVERLAP * max(here, there)


_KIND_EVIDENCE = {_SKELETON: "same matrices", _FLAT: "same rows and size"}


def _longest_run(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Longest subsequence of pairs, sorted by the first number, that increases in the second."""
    tails: list[int] = []
    ends: list[int] = []
    before = [-1] * len(pairs)
    for i, (_, value) in enumerate(pairs):
        place = bisect_right(tails, value)
        before[i] = ends[place - 1] if place else -1
        tails[place : place + 1] = [value]
        ends[place : place + 1] = [i]
    run, i = [], ends[-1] if ends else -1
    while i >= 0:
        run.append(pairs[i])
        i = before[i]
    return run[::-1]


class _Sums:
    """Sizes and contents of one side's nodes, counting live keys of free atoms only."""

    def __init__(self, forest: Forest, scope: Node, claimed: bytearray, kind: int) -> None:
        self.keys, self.scope, self.claimed, self.kind = forest.keys[kind], scope, claimed, kind
        self.counts = Counter(self.keys[i] for i in range(scope.low, scope.high) if not claimed[i - scope.low])
        self.counts.pop(0, None)

    def prepare(self, live: set[int]) -> None:
        low = self.scope.low
        self.rows = [0 if self.claimed[i - low] or self.keys[i] not in live else self.keys[i] for i in range(low, self.scope.high)]
        weights = {0: 0, **{key: _scattered(key) for key in live}}
        # Arrays, for those of all scopes around the current one are in memory too.
        self.sizes = array("q", accumulate(map(bool, self.rows), initial=0))
        self.contents = array("q", accumulate(map(weights.__getitem__, self.rows), initial=0))

    def size(self, node: Node) -> int:
        return self.sizes[node.high - self.scope.low] - self.sizes[node.low - self.scope.low]

    def content(self, node: Node) -> int:
        return self.contents[node.high - self.scope.low] - self.contents[node.low - self.scope.low]

    def in_node(self, node: Node) -> Counter[int]:
        counts = Counter(self.rows[node.low - self.scope.low : node.high - self.scope.low])
        counts.pop(0, None)
        return counts

    def heap(self, root: Node) -> list[tuple[int, int, int, Node]]:
        heap: list[tuple[int, int, int, Node]] = []
        self.open(root, heap)
        return heap

    def open(self, node: Node, heap: list[tuple[int, int, int, Node]]) -> None:
        """Put a node's children on the heap, skipping chains of single children and leaving atoms out."""
        for child in node.children:
            inner = self._innermost(child)
            if inner is not None and inner.atom < 0:
                heapq.heappush(heap, (-self.size(inner), inner.low, id(inner), inner))

    def _innermost(self, node: Node) -> Node | None:
        size = self.size(node)
        if not size:
            return None
        while node.atom < 0:
            inner = next((child for child in node.children if self.size(child) == size), None)
            if inner is None:
                return node
            node = inner
        return node

    def pop_all(self, heap: list[tuple[int, int, int, Node]], size: int) -> dict[int, list[Node]]:
        found: dict[int, list[Node]] = {}
        while heap and -heap[0][0] == size:
            node = heapq.heappop(heap)[3]
            found.setdefault(self.content(node), []).append(node)
        return found


class _Level:
    """Both sides of a scope by one kind of key."""

    def __init__(self, scope: _Scope, kind: int) -> None:
        self.scope = scope
        self.source = _Sums(scope.solver.source, scope.a, scope.claimed_source, kind)
        self.target = _Sums(scope.solver.target, scope.b, scope.claimed_target, kind)
        self.live = self.source.counts.keys() & self.target.counts.keys()
        if self.live:
            self.source.prepare(self.live)
            self.target.prepare(self.live)

    @staticmethod
    def open_top(heap: list[tuple[int, int, int, Node]], sums: _Sums) -> None:
        sums.open(heapq.heappop(heap)[3], heap)

    def covers(self, sources: list[Node], targets: list[Node]) -> bool:
        """Whether some key of the group occurs nowhere else, or elsewhere only in numbered siblings of the group."""
        content = self.source.in_node(sources[0])
        for key, count in content.items():
            if count * len(sources) == self.source.counts[key] and count * len(targets) == self.target.counts[key]:
                return True
        if len(content) < 2 or content.total() < 3:
            return False
        here, there = self._in_family(self.source, sources, content), self._in_family(self.target, targets, content)
        return any(here[key] == self.source.counts[key] and there[key] == self.target.counts[key] for key in content)

    def all_equal(self, node: Node) -> bool:
        """Whether both sides have equally many of everything in a source container."""
        return all(self.source.counts[key] == self.target.counts[key] for key in self.source.in_node(node))

    def _in_family(self, sums: _Sums, nodes: list[Node], wanted: Counter[int]) -> Counter[int]:
        """How often the wanted keys occur in the group and in nodes whose path differs in numbers only."""
        found: Counter[int] = Counter()
        for plain in {masked_path(node.below(sums.scope)) for node in nodes}:
            for node in nodes_at(sums.scope, plain):
                found.update({key: n for key, n in sums.in_node(node).items() if key in wanted})
        return found

    def balanced(self, sources: list[Node], targets: list[Node]) -> bool:
        """Whether nothing in the group is missing on one side of the scope."""
        if len(sources) != len(targets):
            return False
        content = self.source.in_node(sources[0])
        equal = [key for key in content if self.source.counts[key] == self.target.counts[key] and key not in self.scope.tainted]
        return len(equal) == len(content) or any(content[key] * len(sources) == self.source.counts[key] for key in equal)


def unwrapped(scope: Node) -> Node:
    """The scope itself, or the root when it is the scope around it."""
    return scope.children[0] if len(scope.children) == 1 and not scope.children[0].segment and scope.children[0].atom < 0 else scope


def nodes_at(scope: Node, plain: Path) -> list[Node]:
    """Nodes below ``scope`` whose masked relative path is ``plain``."""
    level = [unwrapped(scope)]
    for segment in plain:
        level = [child for node in level for child in node.children if masked_path((child.segment,)) == (segment,)]
    return level


def _scattered(key: int) -> int:
    """A key as a number of 40 scattered bits, so that sums of different contents differ (splitmix64)."""
    z = (key + 0x9E3779B97F4A7C15 * (key + 1)) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 24
