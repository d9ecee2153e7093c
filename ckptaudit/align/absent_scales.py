"""Normalisations that a file has without a scale or a shift: a model that has them computes the same with ones and zeros."""

from __future__ import annotations

from types import MappingProxyType

from ckptaudit.align.ops import Fill
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import parent

__all__ = ["with_absent_scales"]

_NEUTRAL = MappingProxyType({"weight": 1.0, "bias": 0.0})
_EVIDENCE = {"weight": "the file's normalisation has no scale, which is 1", "bias": "the file's normalisation has no shift, which is 0"}


def with_absent_scales(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with what a BatchNorm of Keras leaves out (``scale=False``, ``center=False``) filled in, as sure as its mean is."""
    if source.framework != "keras":
        return alignment
    added: dict[str, Pair] = {}
    for layer in target.layers:
        if layer.kind != "batch_norm":
            continue
        mean = layer.tensors.get("running_mean")
        pair = alignment.pairs.get(mean.name) if mean is not None else None
        if pair is None or pair.ops or len(pair.sources) != 1:
            continue
        held = source.by_path[parent(pair.sources[0])]
        for role, value in _NEUTRAL.items():
            spec = layer.tensors.get(role)
            if spec is not None and spec.name in alignment.unmatched_target and role not in held.tensors and held.kind == "batch_norm":
                evidence = (*pair.evidence, _EVIDENCE[role])
                added[spec.name] = Pair(spec.name, pair.sources, (Fill(value),), pair.grade, pair.confidence, evidence)
    return alignment.with_pairs({**alignment.pairs, **added}, source, target) if added else alignment
