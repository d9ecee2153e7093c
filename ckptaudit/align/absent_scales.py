"""Normalisations that a file has without a scale or a shift: a model that has them computes the same with ones and zeros."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ckptaudit.align.ops import Fill
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.layouts import NUMBERED
from ckptaudit.graph.names import parent
from ckptaudit.records import replace

__all__ = ["with_absent_scales"]

_NEUTRAL = MappingProxyType({"weight": 1.0, "bias": 0.0})
_EVIDENCE = {"weight": "the file's normalisation has no scale, which is 1", "bias": "the file's normalisation has no shift, which is 0"}
_GUESSED = "the file does not tell whether its normalisation has no scale or no shift"


def with_absent_scales(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with what a BatchNorm of Keras leaves out (``scale=False``, ``center=False``) filled in, as sure as its mean is.

    A ``.weights.h5`` numbers the variables: of three it is a guess which of the two is there, and neither is sure.
    """
    if source.framework != "keras":
        return alignment
    added: dict[str, Pair] = {}
    for layer in target.layers:
        mean = layer.tensors.get("running_mean")
        pair = alignment.pairs.get(mean.name) if mean is not None and layer.kind == "batch_norm" else None
        if pair is None or pair.ops or len(pair.sources) != 1:
            continue
        held = source.by_path[parent(pair.sources[0])]
        absent = [role for role in _NEUTRAL if role not in held.tensors]
        guessed = len(absent) == 1 and NUMBERED in source.places and "scale" not in _settings(source, held.path)
        for role, value in _NEUTRAL.items():
            spec = layer.tensors.get(role)
            if spec is None or held.kind != "batch_norm":
                continue
            if role in absent and spec.name in alignment.unmatched_target:
                evidence = (*pair.evidence, _EVIDENCE[role])
                found = Pair(spec.name, pair.sources, (Fill(value),), pair.grade, pair.confidence, evidence)
            elif role not in absent and guessed and absent[0] in layer.tensors and spec.name in alignment.pairs:
                found = alignment.pairs[spec.name]
            else:
                continue
            added[spec.name] = _doubted(found) if guessed and found.sure else found
    return alignment.with_pairs({**alignment.pairs, **added}, source, target) if added else alignment


def _settings(graph: LayerGraph, path: str) -> Mapping[str, Any]:
    module = graph.modules.get(path)
    return module.attributes if module is not None else {}


def _doubted(pair: Pair) -> Pair:
    """The pair, no longer sure."""
    return replace(pair, grade="ambiguous", confidence=0.5, evidence=(*pair.evidence, _GUESSED))
