"""Single tensors that no atom's counterpart took: same shape and role, or a matrix that lies the other way round.

Only what is alone on both sides is proposed, and little of it is sure: where layers differ, a lone tensor of the right
shape may belong to something else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator

from ckptaudit.align.by_structure.joining import Proposal
from ckptaudit.align.by_structure.level import Level
from ckptaudit.align.by_structure.reading import STANDARD_ROLES, Item
from ckptaudit.align.by_structure.tree import Forest
from ckptaudit.align.by_structure.words import tokens

__all__ = ["singles"]

_Key = tuple[Hashable, ...]


def singles(here: Forest, there: Forest, proposals: list[Proposal]) -> list[Proposal]:
    """Proposals for tensors that are left over."""
    taken = {id(item) for p in proposals for item in (p.source, p.target)}
    sources = [item for items in here.items for item in items if id(item) not in taken]
    targets = [item for items in there.items for item in items if id(item) not in taken]
    if not sources or not targets:
        return []
    found = []
    # One of several that were there, left over on both sides, may be another one on each.
    counts = [Counter(_key(item) for items in side.items for item in items) for side in (here, there)]
    for s, t in _alone(sources, targets, turned=False):
        single = all(count[_key(s)] == 1 for count in counts) and not (_torn(s, here) or _torn(t, there))
        level = Level.ORDERED if single and _words(s) & _words(t) else Level.AMBIGUOUS
        found.append(Proposal(s, t, level, ("only tensor of this shape left over", *(("role words",) if level else ()))))
    taken |= {id(item) for p in found for item in (p.source, p.target)}
    sources, targets = ([item for item in items if id(item) not in taken] for items in (sources, targets))
    for s, t in _alone(sources, targets, turned=True):
        if s.module_weight != t.module_weight and not s.perm and not t.perm:
            found.append(Proposal(s, t, Level.ORDERED, ("only matrix of this shape, turned",), turned=True))
    return found


def _torn(item: Item, forest: Forest) -> bool:
    """Whether it is a vector of a layer whose matrix has its counterpart elsewhere, or none."""
    return len(item.shape) < 2 and any(len(other.shape) > 1 for other in forest.side.layers.get(item.owner, ()))


def _alone(sources: list[Item], targets: list[Item], *, turned: bool) -> Iterator[tuple[Item, Item]]:
    here: dict[_Key, list[Item]] = defaultdict(list)
    there: dict[_Key, list[Item]] = defaultdict(list)
    for item in sources:
        here[item.spec.shape if turned else _key(item)].append(item)
    for item in targets:
        there[item.spec.shape[::-1] if turned else _key(item)].append(item)
    for key, items in here.items():
        others = there.get(key, [])
        if len(items) == len(others) == 1 and (len(key) == 2 or not turned):
            yield items[0], others[0]


def _key(item: Item) -> _Key:
    return (item.role if item.role in STANDARD_ROLES else "own", item.shape)


def _words(item: Item) -> frozenset[str]:
    """Telling words of the last two segments of a tensor's layer."""
    return frozenset(word for segment in item.owner[-2:] for word in tokens(segment) if not word.isdecimal()) - _KINDS


_KINDS = frozenset({"conv", "norm", "block", "project", "weight", "bias"})
