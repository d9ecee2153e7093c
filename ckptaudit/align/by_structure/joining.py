"""From pairs of atoms to pairs of tensors: roles inside an atom, parts of fused tensors put together, operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.reading import Item
from ckptaudit.align.by_structure.words import tokens
from ckptaudit.align.ops import Concat, Op, Split, moved_dim, ops_between
from ckptaudit.align.pairs import Pair
from ckptaudit.records import dataclass

__all__ = ["Proposal", "inside_atom", "joined"]

_SURENESS = {Level.DECIDED: 0.99, Level.ORDERED: 0.9, Level.AMBIGUOUS: 0.4}
_EMBEDDING = frozenset({"embed", "position", "token", "table"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two items, whole tensors or parts of fused ones, that belong together."""

    source: Item
    target: Item
    level: Level
    evidence: tuple[str, ...]
    runner_up: Item | None = None
    turned: bool = False


def inside_atom(
    sources: list[Item], targets: list[Item], level: Level, evidence: tuple[str, ...], rivals: list[Item]
) -> Iterator[Proposal]:
    """Pair the items of two atoms: by role, then by shape, then by order as a mere proposal."""
    rest = list(sources)
    late: list[Item] = []
    for target in targets:
        same = next((s for s in rest if s.role == target.role and _same_size(s, target)), None)
        if same is None:
            late.append(target)
        else:
            rest.remove(same)
            yield _proposal(same, target, level, evidence, rivals)
    for target in late:
        fitting = [s for s in rest if s.shape == target.shape] or [s for s in rest if len(s.shape) > 1 and _same_size(s, target)]
        rivalling = [t for t in late if t.shape == target.shape]
        if fitting:
            rest.remove(fitting[0])
            alone = len(fitting) == len(rivalling) == 1
            yield _proposal(fitting[0], target, level if alone else Level.AMBIGUOUS, evidence, rivals)


def _same_size(s: Item, t: Item) -> bool:
    size = 1
    for n in s.shape:
        size *= n
    for n in t.shape:
        size = size // n if n and size % n == 0 else -1
    return size == 1 and s.shape[:1] == t.shape[:1]


def _proposal(s: Item, t: Item, level: Level, evidence: tuple[str, ...], rivals: list[Item]) -> Proposal:
    if _layout_unknown(s, t):
        level, evidence = Level.AMBIGUOUS, (*evidence, "square matrix: layout undecided")
    return Proposal(s, t, level, evidence, next((r for r in rivals if r.role == s.role), None))


def _layout_unknown(s: Item, t: Item) -> bool:
    """Whether a square matrix is a layer's weight on one side and a bare parameter on the other."""
    if s.module_weight == t.module_weight or len(s.shape) != 2 or s.shape[0] != s.shape[1]:
        return False
    return not any(set(tokens(segment)) & _EMBEDDING for item in (s, t) for segment in item.owner)


def joined(proposals: Iterable[Proposal]) -> Iterator[Pair]:
    """Pairs of whole tensors; a fused target is paired once all its parts are."""
    fused: dict[str, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        if proposal.target.of == 1:
            yield _pair([proposal])
        else:
            fused[proposal.target.spec.name].append(proposal)
    for parts in fused.values():
        parts.sort(key=lambda p: p.target.part)
        if [p.target.part for p in parts] == list(range(parts[0].target.of)):
            yield _pair(parts)


def _pair(parts: list[Proposal]) -> Pair:
    level = min(p.level for p in parts)
    evidence = parts[0].evidence if len(parts) == 1 else tuple(dict.fromkeys(text for p in parts for text in p.evidence))
    runner = tuple(p.runner_up.spec.name for p in parts if p.runner_up is not None)
    sources = tuple(p.source.spec.name for p in parts)
    target = parts[0].target.spec.name
    return Pair(target, sources, _chain(parts), level.grade, _SURENESS[level], evidence, runner if len(runner) == len(parts) else None)


def _chain(parts: list[Proposal]) -> tuple[Op, ...]:
    s, t = parts[0].source, parts[0].target
    if len(parts) > 1:
        dim = moved_dim(0, s.perm)
        stored = list(s.spec.shape)
        stored[dim] = sum(p.source.spec.shape[dim] // p.source.of for p in parts)
        return (Concat(dim), *ops_between(tuple(stored), s.perm, t.spec.shape, t.perm))
    if s.of > 1:
        dim = moved_dim(0, s.perm)
        stored = list(s.spec.shape)
        stored[dim] //= s.of
        return (Split(dim, s.part, s.of), *ops_between(tuple(stored), s.perm, t.spec.shape, t.perm))
    if parts[0].turned:
        turned = tuple(reversed(range(len(s.spec.shape))))
        return ops_between(s.spec.shape, turned, t.spec.shape, ())
    return ops_between(s.spec.shape, s.perm, t.spec.shape, t.perm)
