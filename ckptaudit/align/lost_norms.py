"""Layers that would be restored without the BatchNorm that scaled their result.

A model for deployment has the BatchNorm of training folded into the bias and weight of the layer before it. Its tensors have the names and
shapes of the file's layer, and other values.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import is_under, parent
from ckptaudit.records import dataclass, replace

__all__ = ["FOLDED", "LostNorm", "doubting_folded_norms", "doubting_lost_norms", "lost_norms", "norm_behind"]

#: Evidence against a pair of which only the file's side has the BatchNorm behind it worked into it.
FOLDED = "the file seems to have `{}` folded into it, and the model would still compute it"
#: Without its BatchNorm a layer computes what it was never trained to compute.
_CONFIDENCE = 0.3


@dataclass(frozen=True, slots=True)
class LostNorm:
    """A BatchNorm of the file that nothing uses, behind a layer that the model has with a bias: ``weight`` and ``bias`` are the model's."""

    norm: Layer
    weight: str
    bias: str


def lost_norms(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Iterator[LostNorm]:
    """Find them, in the model's order."""
    if not any(layer.kind == "batch_norm" for layer in source.layers):
        return
    used = {name for pair in alignment.pairs.values() for name in pair.sources}
    kernels = ((layer.path, weight) for layer in source.layers if (weight := layer.tensors.get("weight")) and len(weight.shape) > 1)
    lost_blocks = {parent(path) for path, weight in kernels if weight.name not in used}
    for layer in target.layers:
        weight, bias = layer.tensors.get("weight"), layer.tensors.get("bias")
        pair = alignment.pairs.get(weight.name) if weight is not None else None
        if weight is None or bias is None or pair is None or len(pair.sources) != 1 or len(bias.shape) != 1:
            continue
        norm = norm_behind(source, pair.sources[0], bias.shape[0])
        if norm is None or any(spec.name in used for spec in norm.tensors.values()):
            continue
        block = parent(norm.path)
        if block not in lost_blocks or is_under(pair.sources[0], block):  # else it begins a block of which the model has nothing
            yield LostNorm(norm, weight.name, bias.name)


def doubting_lost_norms(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with those pairs ambiguous that keep a layer and lose the BatchNorm behind it, where the model has a bias instead.

    Such a pair has the right name and the right shape, and the wrong values: the model's layer is the file's layer with its BatchNorm.
    """
    doubted: dict[str, Pair] = {}
    for lost in lost_norms(alignment, source, target):
        why = f"the file normalises its result by `{lost.norm.path}`, which the model lacks: its bias may hold that, folded (--adapt fuse)"
        for pair in filter(None, map(alignment.pairs.get, (lost.weight, lost.bias))):
            confidence = min(pair.confidence, _CONFIDENCE)
            doubted[pair.target] = replace(pair, grade="ambiguous", confidence=confidence, evidence=(*pair.evidence, why))
    return alignment.doubting(doubted)


def doubting_folded_norms(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with those pairs ambiguous that restore a layer from one with a bias, while nothing sets the BatchNorm behind it.

    For the file of an exporter, which has the BatchNorm worked into the layer: the model would compute it once more.
    """
    doubted: dict[str, Pair] = {}
    for layer in target.layers:
        weight = layer.tensors.get("weight")
        pair = alignment.pairs.get(weight.name) if weight is not None else None
        if weight is None or pair is None or len(pair.sources) != 1 or not weight.shape:
            continue
        norm = norm_behind(target, weight.name, weight.shape[0])
        held = source.by_path[parent(pair.sources[0])].tensors
        if norm is None or "bias" not in held or any(spec.name in alignment.pairs for spec in norm.tensors.values()):
            continue
        why = FOLDED.format(norm.path)
        for found in filter(None, (alignment.pairs.get(spec.name) for spec in layer.tensors.values())):
            confidence = min(found.confidence, _CONFIDENCE)
            doubted[found.target] = replace(found, grade="ambiguous", confidence=confidence, evidence=(*found.evidence, why))
    return alignment.doubting(doubted)


def norm_behind(graph: LayerGraph, weight: str, channels: int) -> Layer | None:
    """The complete BatchNorm that is known to follow the layer of ``weight``, if it has as many channels."""
    norm = graph.norms_behind.get(parent(weight))
    return norm if norm is not None and norm.tensors["weight"].shape == (channels,) else None
