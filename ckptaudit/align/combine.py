"""Names first, since they are what the author meant; structure for what names leave open."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from ckptaudit.align.auto_numbers import with_shifted_numbers
from ckptaudit.align.by_name import align_by_name
from ckptaudit.align.by_position import align_by_position, doubted_by_position
from ckptaudit.align.flattened import with_flattened_order
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph, is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf

#: No network is nested deeper than this; names that are were made to exhaust whoever walks them.
_MAX_SEGMENTS = 100
#: Structure is believed only when it is sure of this share of the smaller side, or has a proposal for nearly all of it: two networks
#: that merely contain equal shapes also have a few sure-looking pairs.
_SURE, _PROPOSED = 0.5, 0.9


def align(source: LayerGraph, target: LayerGraph) -> Alignment:
    """Find which tensor of ``target`` is which of ``source``.

    Parameters
    ----------
    source:
        What a checkpoint holds.
    target:
        What a freshly built model wants.

    Returns
    -------
    Alignment
        Pairs by name when names leave nothing open on one of the sides; otherwise by structure, and by name where structure
        has no opinion. Tensors whose names correspond and whose shapes differ stay ``mismatched`` unless structure is sure
        of another counterpart.
    """
    named = align_by_name(source, target)
    if not _open(named.unmatched_source, named.mismatched.values()) or not _open(named.unmatched_target, named.mismatched):
        return doubted_by_position(source, target, named)
    if any(name.count(".") + name.count("/") >= _MAX_SEGMENTS for side in (source, target) for name in side.tensors):
        return named
    if (in_order := align_by_position(source, target, named)) is not None:
        return in_order
    named = with_shifted_numbers(source, target, named)
    if not _open(named.unmatched_source, named.mismatched.values()) or not _open(named.unmatched_target, named.mismatched):
        return named
    from ckptaudit.align.by_structure import align_by_structure  # most audits never need it

    found = align_by_structure(source, target)
    by_structure = {name: with_flattened_order(pair, source, target) for name, pair in found.pairs.items()}
    if not _believed(source, target, by_structure.values()):
        return named
    # Structure has seen the equal names too, and goes against one only where the shapes around it do; where it merely
    # doubts, the name decides.
    pairs = {name: pair for name, pair in by_structure.items() if pair.sure or name not in named.pairs}
    pairs |= {name: named.pairs[name] for name in pairs if name in named.pairs and named.pairs[name].sources == pairs[name].sources}
    used = {name for pair in pairs.values() for name in pair.sources}
    for name, pair in named.pairs.items():
        if name not in pairs and not used.intersection(pair.sources):
            pairs[name] = pair
            used.update(pair.sources)
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
        named.scopes,
        tuple(name for name in target.tensors if name in pairs and (pairs[name].sources != by_name.get(name) or name in shifted)),
    )


def _believed(source: LayerGraph, target: LayerGraph, pairs: Iterable[Pair]) -> bool:
    """Whether structure has enough to say; integers, which are counters and indices, do not count."""
    smaller = min(sum(is_float(spec.dtype) for spec in side) for side in (source, target))
    counted = [pair for pair in pairs if is_float(target.tensors[pair.target].dtype)]
    return sum(pair.sure for pair in counted) >= _SURE * smaller or len(counted) >= _PROPOSED * smaller


def _open(*groups: Iterable[str]) -> bool:
    """Whether anything but derived buffers is left."""
    return any(leaf(name) not in DERIVED_BUFFERS for names in groups for name in names)
