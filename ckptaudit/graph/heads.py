"""Heads: the layers whose outputs are classes, and which of them are auxiliary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ckptaudit.graph.layers import Layer, LayerGraph
from ckptaudit.graph.names import is_under, split_name

#: Words that name the layer that gives classes, across libraries; the earlier list names it more surely.
_CLASS_WORDS = (
    "cls_score",
    "cls_logits",
    "class_embed",
    "logits",
    "conv_seg",
    "last_linear",
    "fc",
    "linear",
    "segmentation_head",
    "classification_head",
)
_HEAD_WORDS = ("classifier", "head", "heads", "predictor", "mask_fcn_logits", "decode_head", "output", "out", "final", "predictions")
_AUXILIARY = re.compile(r"^(aux\d*|auxiliary.*|aux_.*|auxlogits.*|.*_aux)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Head:
    """A layer that gives classes: where it lies, and how many outputs it has."""

    path: str
    outputs: int


def is_auxiliary(name: str) -> bool:
    """Whether ``name`` lies in an auxiliary head (``aux_classifier``, ``AuxLogits``, ``aux1`` …)."""
    return any(_AUXILIARY.match(segment) for segment in split_name(name))


def auxiliary_scopes(names: Iterable[str]) -> tuple[str, ...]:
    """Paths of the outermost modules that are auxiliary heads."""
    found: dict[str, None] = {}
    for name in names:
        segments = re.split(r"([./])", name)
        for i in range(0, len(segments) - 1, 2):
            if _AUXILIARY.match(segments[i]):
                found["".join(segments[: i + 1])] = None
                break
    return tuple(found)


def main_head(graph: LayerGraph) -> Head | None:
    """The layer that gives the classes, or ``None`` where names and order do not show one.

    Among linear layers and convolutions outside auxiliary heads: the last one that a class word names, else the last one in
    a scope with a head word, else the last one of all when it is the network's last layer with a matrix.
    """
    matrices = [layer for layer in graph.layers if layer.kind in ("linear", "conv") and not is_auxiliary(layer.path)]
    if not matrices:
        return None
    segments = [split_name(layer.path.lower()) for layer in matrices]
    for words in (_CLASS_WORDS, _HEAD_WORDS):
        # A class word must name the layer itself or its parent; deeper down it names a block that only happens to be called so.
        near = 2 if words is _CLASS_WORDS else 99
        named = [layer for layer, path in zip(matrices, segments, strict=True) if any(word in path[-near:] for word in words)]
        if named:
            return _head(named[-1], graph.framework)
    last = matrices[-1]
    return _head(last, graph.framework) if "bias" in last.tensors else None


def in_head(name: str, graph: LayerGraph) -> bool:
    """Whether the tensor ``name`` belongs to the main head's layer or to an auxiliary head."""
    head = main_head(graph)
    return is_auxiliary(name) or (head is not None and is_under(name, head.path))


def _head(layer: Layer, framework: str) -> Head:
    shape = layer.tensors["weight"].shape
    return Head(layer.path, shape[-1] if framework in ("keras", "tensorflow") else shape[0])
