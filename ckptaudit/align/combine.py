"""What names leave open: by order, by numbers, by structure, and what of it is believed where names say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ckptaudit.align.auto_numbers import with_shifted_numbers
from ckptaudit.align.by_name import align_by_name
from ckptaudit.align.by_position import align_by_position, doubted_by_position
from ckptaudit.align.flattened import with_flattened_order
from ckptaudit.align.pairs import Alignment, Pair, Scope
from ckptaudit.align.recurrent import recurrent_pairs
from ckptaudit.align.tied import aliases, with_aliases
from ckptaudit.graph import LayerGraph, TensorSpec, is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import is_under, leaf
from ckptaudit.records import replace

#: No network is nested deeper than this; names that are were made to exhaust whoever walks them.
_MAX_SEGMENTS = 100
#: Structure is believed only when it is sure of this share of the smaller side, or has a proposal for nearly all of it: two networks
#: that merely contain equal shapes also have a few sure-looking pairs.
_SURE, _PROPOSED = 0.5, 0.9
#: Projections that one library fuses: so many in one.
_FUSED = (2, 3)
#: Share of the pairs that may lie outside the exchanged prefixes, if these are to say which part of the model the file is.
_OUTSIDE = 0.2


def align_beyond_names(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment:
    """The alignment of two sides of which ``named`` says what names alone give: see :func:`ckptaudit.align.align`."""
    if target.tied and (known := aliases(source, target, named)):
        alone = target.select(target.tensors.keys() - known.keys())
        return with_aliases(align_beyond_names(source, alone, align_by_name(source, alone)), known, source, target)
    recurrent = recurrent_pairs(source, target)
    return _beside(recurrent, source, target) if recurrent else _aligned(source, target, named)


def _beside(known: Mapping[str, Pair], source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment of what is left beside pairs that are known."""
    used = {old for pair in known.values() for old in pair.sources}
    here, there = source.select(set(source.tensors) - used), target.select(target.tensors.keys() - known.keys())
    rest = _aligned(here, there, align_by_name(here, there))
    pairs = {**rest.pairs, **known}
    structural = {*rest.structural, *known}
    return replace(
        rest,
        pairs=MappingProxyType({name: pairs[name] for name in target.tensors if name in pairs}),
        structural=tuple(name for name in target.tensors if name in structural),
    )


def _aligned(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment:
    if not all(_left(source, target, named)):
        return doubted_by_position(source, target, named)
    if any(name.count(".") + name.count("/") >= _MAX_SEGMENTS for side in (source, target) for name in side.tensors):
        return named
    if (in_order := align_by_position(source, target, named)) is not None:
        return in_order
    named = with_shifted_numbers(source, target, named)
    if not _may_go_on(source, target, named):
        return named
    from ckptaudit.align.by_structure import align_by_structure  # most audits never need it
    from ckptaudit.align.keras_creation import in_order_of_creation

    found = align_by_structure(in_order_of_creation(source), in_order_of_creation(target))
    by_structure = {name: with_flattened_order(pair, source, target) for name, pair in found.pairs.items()}
    return _combined(source, target, named, by_structure) if _believed(source, target, by_structure.values()) else named


def _combined(source: LayerGraph, target: LayerGraph, named: Alignment, by_structure: dict[str, Pair]) -> Alignment:
    # Structure has seen the equal names too, and goes against one only where the shapes around it do; where it merely
    # doubts, the name decides, and what it merely guesses takes nothing from a name.
    pairs = {name: pair for name, pair in by_structure.items() if pair.sure}
    pairs |= {name: named.pairs[name] for name in pairs if name in named.pairs and named.pairs[name].sources == pairs[name].sources}
    used = {name for pair in pairs.values() for name in pair.sources}
    kept = {name: pair for name, pair in named.pairs.items() if name not in pairs and used.isdisjoint(pair.sources)}
    taken = {name for pair in kept.values() for name in pair.sources}
    pairs |= {name: pair for name, pair in by_structure.items() if name not in pairs and taken.isdisjoint(pair.sources)} | kept
    used = {name for pair in pairs.values() for name in pair.sources}
    mismatched = {t: s for t, s in named.mismatched.items() if not (t in pairs and pairs[t].sure) and s not in used}
    for name in mismatched:  # a name that corresponds with another shape says more than a guess
        pairs.pop(name, None)
    used = {name for pair in pairs.values() for name in pair.sources} | set(mismatched.values())
    shifted = set(named.structural)
    by_name = {name: pair.sources for name, pair in named.pairs.items()}
    return Alignment(
        MappingProxyType({name: pairs[name] for name in target.tensors if name in pairs}),
        tuple(name for name in source.tensors if name not in used),
        tuple(name for name in target.tensors if name not in pairs and name not in mismatched),
        MappingProxyType(mismatched),
        named.wrappers,
        _telling(named.scopes, pairs),
        tuple(name for name in target.tensors if name in pairs and (pairs[name].sources != by_name.get(name) or name in shifted)),
    )


def _telling(scopes: tuple[Scope, ...], pairs: Mapping[str, Pair]) -> tuple[Scope, ...]:
    """The exchanged prefixes, if they say where the file belongs: not where a good part of what corresponds lies outside of all of them."""
    outside = sum(
        pair.sources != (name,) and not any(is_under(name, scope.target) and is_under(pair.sources[0], scope.source) for scope in scopes)
        for name, pair in pairs.items()
    )
    return scopes if outside < _OUTSIDE * len(pairs) else ()


def _believed(source: LayerGraph, target: LayerGraph, pairs: Iterable[Pair]) -> bool:
    """Whether structure has enough to say; integers, which are counters and indices, do not count."""
    smaller = min(sum(is_float(spec.dtype) for spec in side) for side in (source, target))
    counted = [pair for pair in pairs if is_float(target.tensors[pair.target].dtype)]
    return sum(pair.sure for pair in counted) >= _SURE * smaller or len(counted) >= _PROPOSED * smaller


def _left(source: LayerGraph, target: LayerGraph, named: Alignment) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """What names leave open on either side, derived buffers aside."""
    here, there = (*named.unmatched_source, *named.mismatched.values()), (*named.unmatched_target, *named.mismatched)
    return (
        [source.tensors[name] for name in here if leaf(name) not in DERIVED_BUFFERS],
        [target.tensors[name] for name in there if leaf(name) not in DERIVED_BUFFERS],
    )


def _may_go_on(source: LayerGraph, target: LayerGraph, named: Alignment) -> bool:
    """Whether anything of what names leave open may have a counterpart.

    Where all names are equal, what has changed its shape can have moved only if both of its shapes are found on the other side.
    """
    here, there = _left(source, target, named)
    enough = any if named.unmatched_source or named.unmatched_target else all
    return bool(here and there) and enough((_may_fit(here, target), _may_fit(there, source)))


def _may_fit(left: Iterable[TensorSpec], other: LayerGraph) -> bool:
    """Whether any tensor of the other side has as many elements, or is two or three of these in one, or one of two or three."""
    here, there = ({spec.numel for spec in side} for side in (left, other))
    return any(number * more in there or (number % more == 0 and number // more in there) for number in here for more in (1, *_FUSED))
