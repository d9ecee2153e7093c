"""The pipeline, readable in one screen: read, split, match in passes that learn, audit, join."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from ckptaudit.align.by_structure.copies import find_twin
from ckptaudit.align.by_structure.crossings import crossed
from ckptaudit.align.by_structure.derived import derived_pairs
from ckptaudit.align.by_structure.flattening import undecided_where_flattened
from ckptaudit.align.by_structure.grading import Found, Whole, audited, order_agreement
from ckptaudit.align.by_structure.granularity import split_fused
from ckptaudit.align.by_structure.joining import Proposal, inside_atom, joined
from ckptaudit.align.by_structure.level import Level, Worth
from ckptaudit.align.by_structure.numbering import worth_of_numbers
from ckptaudit.align.by_structure.reading import read
from ckptaudit.align.by_structure.rules import Context, Path, Rules
from ckptaudit.align.by_structure.samename import astray, same_names
from ckptaudit.align.by_structure.scopes import AGREEING, Inner, Solution, Solver, context_of
from ckptaudit.align.by_structure.sequence import in_sequence
from ckptaudit.align.by_structure.singles import singles
from ckptaudit.align.by_structure.tree import Forest, Ids, Node
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.records import replace

__all__ = ["align_by_structure"]

#: Passes over the whole; each starts with what the one before has learned.
_PASSES = 3

#: With more atoms than this the last pass is left out.
_MANY = 4000

#: Containers of at least so many atoms do not have equal contents by coincidence.
_LARGE = 5

_Frame = tuple[Node, Node, Context]


def align_by_structure(source: LayerGraph, target: LayerGraph) -> Alignment:
    """Find which tensor of ``target`` is which of ``source``, through which operations, and how sure that is.

    Parameters
    ----------
    source:
        What a checkpoint holds.
    target:
        What a freshly built model wants.

    Returns
    -------
    Alignment
        A pair for each target tensor that has a counterpart. No source tensor is used twice, but parts of a fused one.
    """
    pairs = {pair.target: pair for pair in same_names(source, target)}
    if len(pairs) < len(target):
        pairs.update((pair.target, pair) for pair in _beyond_names(source, target, pairs))
    used = frozenset(name for pair in pairs.values() for name in pair.sources)
    return Alignment(
        MappingProxyType({name: pairs[name] for name in target.tensors if name in pairs}),
        tuple(name for name in source.tensors if name not in used),
        tuple(name for name in target.tensors if name not in pairs),
    )


def _beyond_names(source: LayerGraph, target: LayerGraph, known: dict[str, Pair]) -> Iterator[Pair]:
    """Pairs of what equal names left open; where one side holds a copy of itself, none of them is sure."""
    used = frozenset(name for pair in known.values() for name in pair.sources)
    here, there = (None, None) if known else (find_twin(source), find_twin(target))
    if (here is None) == (there is None):
        yield from astray(_general(source, target, used, frozenset(known), known), known)
        return
    apart = (here.names if here else frozenset(), there.names if there else frozenset())
    for pair in _general(source, target, used | apart[0], frozenset(known) | apart[1], known):
        twins = here.twin_of if here else {}
        runner = tuple(twins.get(name, name) for name in pair.sources) if here else pair.runner_up
        evidence = (*pair.evidence, "one of two equal copies")
        yield replace(pair, grade="ambiguous", confidence=min(pair.confidence, 0.5), evidence=evidence, runner_up=runner)


def _general(
    source: LayerGraph, target: LayerGraph, done_source: frozenset[str], done_target: frozenset[str], known: dict[str, Pair]
) -> Iterator[Pair]:
    sides = read(source, target, done_source), read(target, source, done_target)
    split_fused(*sides)
    ids, builds = Ids(), Ids()
    here, there = Forest(sides[0], ids, builds), Forest(sides[1], ids, builds)
    found, numbered = _passes(here, there)
    found = in_sequence(here, there, audited(here, there, found))
    if numbered == Worth.EVIDENCE:
        found = _against_numbers(here, there, found)
    proposals = [proposal for pair in found for proposal in _items(here, there, pair)]
    del found
    proposals += singles(here, there, proposals)
    del here, there
    pairs = list(undecided_where_flattened(*sides, joined(proposals)))
    yield from pairs
    yield from derived_pairs(sides[0], sides[1], {**known, **{pair.target: pair for pair in pairs}})


def _against_numbers(here: Forest, there: Forest, found: list[Found]) -> list[Found]:
    """The pairs, those ambiguous that only order decides and that the numbers of others are against.

    Where nothing is left over, these others must be sure: what is guessed of a file in another order crosses everything.
    """
    whole = len(found) == len(here.atoms) == len(there.atoms)
    paths = [(here.atoms[pair.source].path, there.atoms[pair.target].path) for pair in found]
    is_crossed = crossed(
        (*both, here.keys[0][pair.source], pair.level == Level.DECIDED)
        for both, pair in zip(paths, found, strict=True)
        if pair.level or not whole
    )
    return [
        replace(pair, level=Level.AMBIGUOUS, evidence=(*pair.evidence, "against the order of numbers"))
        if pair.level == Level.ORDERED and is_crossed(*both)
        else pair
        for both, pair in zip(paths, found, strict=True)
    ]


def _passes(here: Forest, there: Forest) -> tuple[list[Found], Worth]:
    rules, ordered = Rules(), False  # the first pass trusts no order: it finds out whether order may be trusted
    last = _PASSES - 1 if len(here.atoms) <= _MANY else _PASSES - 2
    numbered = Worth.EVIDENCE

    def solved() -> tuple[Solution, list[Found]]:
        solution = Solver(here, there, rules, ordered=ordered, numbered=numbered).solve(here.top, there.top)
        return solution, list(_flattened(here, there, solution, (0, 0), Level.DECIDED, ()))

    for number in range(last + 1):
        solution, found = solved()
        if not number and (numbered := worth_of_numbers(here, there, found)) < Worth.EVIDENCE:
            solution, found = solved()
        if number == last or (number and all(pair.level for pair in found)):
            return found, numbered
        ordered = here.side.ordered and there.side.ordered and order_agreement(here, there, found) >= AGREEING
        rules = Rules()
        for firm in (True, False):
            _learn(rules, here, there, solution, firm=firm)
        del solution, found  # the next pass's would stand beside them in memory
    raise AssertionError("the last pass returns")


def _flattened(
    here: Forest,
    there: Forest,
    solution: Solution,
    low: tuple[int, int],
    cap: Level,
    why: tuple[str, ...],
    *,
    whole: Whole | None = None,
) -> Iterator[Found]:
    """Pairs of atoms by absolute number; a pair is no surer than the containers around it."""
    for pair in solution.pairs:
        runner = None if pair.runner_up is None else low[0] + pair.runner_up
        evidence = tuple(dict.fromkeys((*why, *pair.evidence)))
        yield Found(low[0] + pair.source, low[1] + pair.target, min(cap, pair.level), evidence, runner, whole)
    for inner in solution.inner:
        chain = tuple(dict.fromkeys((*why, *inner.evidence)))
        start = low[0] + inner.source, low[1] + inner.target
        now = _whole(here, there, inner, start)
        inside = now if whole is None else whole if now is None else replace(whole, left=_both(whole.left, now.left))
        yield from _flattened(here, there, inner.solution, start, min(cap, inner.level), chain, whole=inside)


def _both(outer: tuple[bool, bool], inner: tuple[bool, bool]) -> tuple[bool, bool]:
    return outer[0] and inner[0], outer[1] and inner[1]


def _whole(here: Forest, there: Forest, inner: Inner, low: tuple[int, int]) -> Whole | None:
    """The two containers, if they are large and lack nothing that the other has and that both sides know."""
    solution = inner.solution
    if inner.sizes[0] < _LARGE or inner.level == Level.AMBIGUOUS:
        return None
    shared = here.known & there.known
    left = (*(here.keys[0][low[0] + i] for i in solution.left_source), *(there.keys[0][low[1] + i] for i in solution.left_target))
    if not shared.isdisjoint(left):
        return None
    ends = low[0] + inner.sizes[0], low[1] + inner.sizes[1]
    return Whole(range(low[0], ends[0]), range(low[1], ends[1]), (bool(solution.left_source), bool(solution.left_target)))


def _learn(rules: Rules, here: Forest, there: Forest, solution: Solution, *, firm: bool) -> None:
    """Record the renames of all sure pairs, in the scopes around them, up to three levels."""
    seen: set[tuple[int, Context, Context]] = set()

    def visit(solution: Solution, low: tuple[int, int], frames: tuple[_Frame, ...]) -> None:
        for pair in solution.pairs:
            if pair.level == Level.AMBIGUOUS or (pair.level == Level.DECIDED) != firm:
                continue
            s, t = here.atoms[low[0] + pair.source], there.atoms[low[1] + pair.target]
            for a, b, context in frames:
                rules.learn(context, s.below(a), t.below(b), (a.low, b.low), firm=firm)
        for inner in solution.inner:
            if inner.level == Level.AMBIGUOUS:
                continue
            start = low[0] + inner.source, low[1] + inner.target
            s, t = (
                _container(here, start[0], (*frames[-1][0].path, *inner.names[0])),
                _container(there, start[1], (*frames[-1][1].path, *inner.names[1])),
            )
            if (inner.level == Level.DECIDED) == firm:
                for a, b, context in frames:
                    rules.learn(context, s.below(a), t.below(b), (a.low, b.low), firm=firm)
            key = (id(inner.solution), frames[-1][2], inner.context)
            if key not in seen:
                seen.add(key)
                visit(inner.solution, start, (*frames[-2:], (s, t, inner.context)))

    visit(solution, (0, 0), ((here.top, there.top, context_of(here, there, here.top, there.top)),))


def _container(forest: Forest, low: int, path: Path) -> Node:
    """The outermost container of a path that begins at an atom."""
    node = forest.atoms[low]
    found = node
    while node.parent is not None and node.parent.low == low and len(node.parent.path) >= len(path):
        node = node.parent
        if node.path == path:
            found = node
    return found


def _items(here: Forest, there: Forest, pair: Found) -> Iterator[Proposal]:
    rivals = [] if pair.runner_up is None else here.items[pair.runner_up]
    return inside_atom(here.items[pair.source], there.items[pair.target], pair.level, pair.evidence, rivals)
