"""Layers that would be restored without the bias that the file adds to their result, or the scale that it multiplies it by."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import leaf, parent
from ckptaudit.records import replace

__all__ = ["doubting_lost_parts", "loses_part"]

_LOST = {
    "bias": "the model has no place for the bias that the file adds to its result",
    "weight": "the model has no place for the scale that the file multiplies its result by",
}
_CONFIDENCE = 0.3
#: Layers whose bias changes nothing: softmax takes no notice of what is added to every score of a row, as the bias of the keys is.
_KEYS = frozenset({"k", "key", "keys", "k_proj", "key_proj", "k_lin", "to_k", "wk", "key_dense"})


def doubting_lost_parts(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with those pairs ambiguous that restore part of a layer of which the model has no place for the rest.

    Names and shapes are right; outputs are not, unless the bias happens to be zero, or the scale one. The bias of an attention's keys
    has no effect.
    """
    doubted = {pair.target: pair for pair in _doubted(alignment, source, target)}
    if not doubted:
        return alignment
    return replace(alignment, pairs=MappingProxyType({name: doubted.get(name, pair) for name, pair in alignment.pairs.items()}))


def loses_part(pair: Pair) -> bool:
    """Whether all that is against the pair is what its layer loses."""
    return not set(_LOST.values()).isdisjoint(pair.evidence)


def _doubted(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Iterator[Pair]:
    unused = set(alignment.unmatched_source)
    for layer in target.layers:
        for lost, kept in (("bias", "weight"), ("weight", "bias")):
            spec = layer.tensors.get(kept)
            pair = alignment.pairs.get(spec.name) if spec is not None and lost not in layer.tensors else None
            if pair is None or not pair.sure or len(pair.sources) != 1:
                continue
            held = source.by_path[parent(pair.sources[0])]
            part = held.tensors.get(lost)
            if part is not None and part.name in unused and not (lost == "bias" and leaf(held.path) in _KEYS):
                yield replace(pair, grade="ambiguous", confidence=_CONFIDENCE, evidence=(*pair.evidence, _LOST[lost]))
