"""Heads: the layers whose outputs are classes, and which of them are auxiliary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ckptaudit.graph.layers import Layer, LayerGraph
from ckptaudit.graph.names import is_under, natural, numbers_masked, parent, split_name
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import dataclass

#: Words that name what gives classes and nothing else, at any depth.
_CLASS_WORDS = frozenset(
    {"cls_score", "cls_logits", "fc_cls", "class_embed", "logits", "conv_seg", "last_linear", "segmentation_head", "classification_head"}
)
#: Words that name a head, except inside a repeated block: every block of a transformer has an ``output``, of a SENet an ``fc``.
_HEAD_WORDS = frozenset(
    {"fc", "linear", "classifier", "head", "heads", "predictor", "decode_head", "output", "out", "outc", "final", "predictions"}
    | {"final_conv", "last_conv", "conv_last", "conv_out", "out_conv", "outconv", "logit"}
)
#: Words that name what gives boxes.
_BOX_WORDS = frozenset({"bbox_pred", "bbox_reg", "bbox_embed", "regression_head", "loc", "fc_reg"})
_AUXILIARY = compiled_when_used(r"^(aux\d*|auxiliary.*|aux_.*|auxlogits.*|.*_aux)$", re.IGNORECASE)
#: Fewer layers with a matrix than this do not show a habit such as "only the last one has a bias".
_MIN_FOR_HABIT = 4


@dataclass(frozen=True, slots=True)
class Head:
    """A layer that gives classes.

    Attributes
    ----------
    path:
        Where it lies.
    outputs:
        How many values it gives for each place.
    anchors:
        For how many boxes at each place, in an anchor-based detector; else 1.
    """

    path: str
    outputs: int
    anchors: int = 1

    @property
    def classes(self) -> int:
        """Outputs for each box."""
        return self.outputs // self.anchors


def is_auxiliary(name: str) -> bool:
    """Whether ``name`` lies in an auxiliary head (``aux_classifier``, ``AuxLogits``, ``aux1`` …)."""
    return _may_be_auxiliary(name) and any(map(_AUXILIARY.match, split_name(name)))


def _may_be_auxiliary(name: str) -> bool:
    return "aux" in name.lower()  # all that the expression accepts; most names are done with here


def auxiliary_scopes(names: Iterable[str]) -> tuple[str, ...]:
    """Paths of the outermost modules that are auxiliary heads."""
    found: dict[str, None] = {}
    for name in filter(_may_be_auxiliary, names):
        segments = re.split(r"([./])", name)
        for i in range(0, len(segments) - 1, 2):
            if _AUXILIARY.match(segments[i]):
                found["".join(segments[: i + 1])] = None
                break
    return tuple(found)


def main_head(graph: LayerGraph) -> Head | None:
    """The layer that gives the classes, or ``None`` where names and order do not show one.

    Among linear layers and convolutions outside auxiliary heads and box regressors: the last one that a class word names,
    else the last one in a scope with a head word, else the only one with a bias, else the very last one.
    """
    matrices = [layer for layer in _in_order(graph) if _has_matrix(layer) and not is_auxiliary(layer.path)]
    candidates: list[Layer] = []
    by_head_word: Layer | None = None
    for layer in reversed(matrices):
        words = layer.path.lower().replace("/", ".").split(".")
        if not _BOX_WORDS.isdisjoint(words):
            continue
        candidates.append(layer)
        if not _CLASS_WORDS.isdisjoint(words):
            found: Layer | None = layer
            break
        if by_head_word is None and not _HEAD_WORDS.isdisjoint(_before_numbers(words)):
            by_head_word = layer
    else:
        found = by_head_word or (_unnamed_head(candidates[::-1], graph) if candidates else None)
    return Head(found.path, outputs(found, graph.framework), _anchors(found, matrices, graph.framework)) if found else None


def in_head(name: str, head: Head | None) -> bool:
    """Whether the tensor ``name`` belongs to ``head`` or to an auxiliary head."""
    return is_auxiliary(name) or (head is not None and is_under(name, head.path))


def head_scope(graph: LayerGraph, head: Head, stem: str | None) -> str:
    """Path of the largest module that holds ``head`` and not the network's stem: ``classifier`` of ``classifier.4``."""
    scope = head.path
    while (above := parent(scope)) and not (stem is not None and is_under(stem, above)):
        scope = above
    return scope


def output_axis(layer: Layer, framework: str) -> int:
    """The axis of the layer's matrix that counts outputs. Transposed convolutions are told by their bias."""
    shape = layer.tensors["weight"].shape
    if framework in ("keras", "tensorflow"):
        return len(shape) - 1
    bias = layer.tensors.get("bias")
    return 1 if len(shape) > 2 and bias is not None and bias.shape != shape[:1] and bias.shape == shape[1:2] else 0


def outputs(layer: Layer, framework: str) -> int:
    """How many outputs a layer with a matrix has."""
    return layer.tensors["weight"].shape[output_axis(layer, framework)]


def _has_matrix(layer: Layer) -> bool:
    return layer.kind in ("linear", "conv") and "weight" in layer.tensors


def _before_numbers(path: Sequence[str]) -> Sequence[str]:
    """Segments up to the first number: below it lies one of several repeated blocks."""
    for i, word in enumerate(path):
        if word.isdecimal():
            return path[:i]
    return path


def _unnamed_head(matrices: list[Layer], graph: LayerGraph) -> Layer | None:
    biased = [layer for layer in matrices if "bias" in layer.tensors]
    # Where every layer but one is followed by a norm and has no bias, that one gives the output, wherever it is defined.
    if len(biased) == 1 and len(matrices) >= _MIN_FOR_HABIT:
        return biased[0]
    last = matrices[-1]
    if graph.is_alphabetical and not all(_counted(layer.path, last.path) for layer in matrices[:-1]):
        return None
    layers = _in_order(graph)
    if "bias" not in last.tensors or any(layer.kind == "batch_norm" for layer in layers[layers.index(last) + 1 :]):
        return None
    # A layer that takes the same input as the one before it, instead of its output, is one of several heads.
    if len(matrices) > 1:
        width, before = _inputs(last, graph.framework), matrices[-2]
        if _inputs(before, graph.framework) == width != outputs(before, graph.framework):
            return None
    return last


def _in_order(graph: LayerGraph) -> Sequence[Layer]:
    """The layers in definition order, as far as that is known: by the numbers in names where these stand in the order of the alphabet."""
    return sorted(graph.layers, key=lambda layer: natural(layer.path)) if graph.is_alphabetical else graph.layers


def _counted(first: str, second: str) -> bool:
    """Whether two paths part at numbers of one series, which tell their order."""
    parting = next(((a, b) for a, b in zip(split_name(first), split_name(second), strict=False) if a != b), None)
    return parting is not None and numbers_masked(parting[0]) == numbers_masked(parting[1])


def _inputs(layer: Layer, framework: str) -> int:
    shape = layer.tensors["weight"].shape
    return shape[-2] if framework in ("keras", "tensorflow") else shape[1 - output_axis(layer, framework)]


def _anchors(head: Layer, matrices: list[Layer], framework: str) -> int:
    """Boxes at each place: a regressor beside the head, on the same input, gives four values for each of them."""
    if head.kind != "conv":
        return 1
    place = [word for word in split_name(head.path) if word.isdecimal()]
    for layer in matrices:
        path = split_name(layer.path.lower())
        if _BOX_WORDS.isdisjoint(path) or layer.kind != "conv" or [word for word in path if word.isdecimal()] != place:
            continue
        boxes, rest = divmod(outputs(layer, framework), 4)
        if not rest and boxes and _inputs(layer, framework) == _inputs(head, framework) and outputs(head, framework) % boxes == 0:
            return boxes
    return 1
