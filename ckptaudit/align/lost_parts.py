"""Layers that would be restored without the bias that the file adds to their result, or the scale that it multiplies it by."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import parent
from ckptaudit.records import replace

__all__ = ["doubting_lost_parts", "loses_part"]

_LOST = {
    "bias": "the model has no place for the bias that the file adds to its result",
    "weight": "the model has no place for the scale that the file multiplies its result by",
    "running_mean": "the model has no place for the statistics by which the file normalises",
}
_CONFIDENCE = 0.3


def doubting_lost_parts(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with those pairs ambiguous that restore part of a layer of which the model has no place for the rest.

    Names and shapes are right; outputs are not, unless the bias happens to be zero, or the scale one. (The bias of the keys has no effect
    in an attention that takes the softmax of plain products; whether it is one, names and shapes do not tell.)
    """
    return alignment.doubting({pair.target: pair for pair in _doubted(alignment, source, target)})


def loses_part(pair: Pair) -> bool:
    """Whether all that is against the pair is what its layer loses."""
    return not set(_LOST.values()).isdisjoint(pair.evidence)


def _doubted(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Iterator[Pair]:
    unused = set(alignment.unmatched_source)
    for layer in target.layers:
        for role, spec in layer.tensors.items():
            pair = alignment.pairs.get(spec.name)
            if pair is None or not pair.sure:
                continue
            held = [source.by_path[parent(name)] for name in pair.sources]
            for kind, lost in _partners(role):
                if any(lost in part.tensors and part.tensors[lost].name in unused for part in held) and not _keeps(layer, kind, target):
                    yield replace(pair, grade="ambiguous", confidence=_CONFIDENCE, evidence=(*pair.evidence, _LOST[kind]))
                    break


def _partners(role: str) -> Iterator[tuple[str, str]]:
    """What a layer needs beside its tensor of this role: the kind of it, and its own role (``bias_ih_l0`` beside ``weight_ih_l0``)."""
    if "weight" in role:
        yield "bias", role.replace("weight", "bias")
    if role == "weight":
        yield "running_mean", "running_mean"
    if role == "bias":
        yield "weight", "weight"


def _keeps(layer: Layer, kind: str, target: LayerGraph) -> bool:
    """Whether the model's layer has something of this kind. InstanceNorm once kept statistics that nothing reads."""
    module = target.modules.get(layer.path)
    if kind == "running_mean" and (module is None or module.type_name.startswith("InstanceNorm")):
        return True
    return any(kind in role for role in layer.tensors)
