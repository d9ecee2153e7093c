"""Facts of a network that a person would state: backbone, classes, input channels, auxiliary head."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ckptaudit.graph.backbones import backbone_of
from ckptaudit.graph.heads import Head, auxiliary_scopes, main_head
from ckptaudit.graph.layers import Layer, LayerGraph
from ckptaudit.graph.names import is_under, split_name
from ckptaudit.graph.slim import slim_pyramid
from ckptaudit.graph.tensors import is_float
from ckptaudit.records import dataclass

_CONVOLUTIONS = ("conv", "depthwise_conv")
#: Input channels that only the first convolution has.
_OF_IMAGES = (3, 4)
#: Names of the part that gives features, in which a layer of 48 channels means nothing.
BACKBONE_WORDS = frozenset({"backbone", "encoder", "features", "body", "blocks", "layer1", "layer2", "layer3", "layer4"})
#: Branches with a rate of their own that a pyramid has at least.
_MIN_BRANCHES = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What names and shapes show of a network; ``None`` where they do not show it.

    Attributes
    ----------
    backbone:
        Published name, or a description.
    num_classes:
        Outputs of the main head; a background class, if the network has one, is among them.
    head:
        Path of the layer that gives them.
    in_channels:
        Input channels of the first convolution.
    aux_head:
        Whether there is an auxiliary head.
    decoder:
        ``deeplabv3``, ``deeplabv3plus`` or ``None``.
    atrous_branches:
        3×3 branches of the pyramid pooling module.
    batch_norm_layers, norm_layers:
        How many layers keep running statistics, and how many normalise without.
    dtype:
        The dtype of most floating-point values.
    tied:
        Groups of names that share one memory.
    """

    backbone: str | None
    num_classes: int | None
    head: str | None
    in_channels: int | None
    aux_head: bool
    decoder: str | None
    atrous_branches: int | None
    batch_norm_layers: int
    norm_layers: int
    dtype: str | None
    tied: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {**{name: getattr(self, name) for name in self.__match_args__}, "tied": [list(group) for group in self.tied]}


def facts_of(graph: LayerGraph, head: Head | None = None) -> Facts:
    """Collect the facts of a graph; nothing is read but names and shapes. ``head`` is its main head where that is known already."""
    kinds = Counter(layer.kind for layer in graph.layers)
    sizes: Counter[str] = Counter()
    for spec in graph:
        if is_float(spec.dtype):
            sizes[spec.dtype] += spec.numel
    head = head or main_head(graph)
    pyramid = _pyramid(graph)
    slim = slim_pyramid(graph.tensors)
    return Facts(
        backbone=backbone_of(graph),
        num_classes=head.classes if head else None,
        head=head.path if head else None,
        in_channels=stem_channels(graph),
        aux_head=bool(auxiliary_scopes(graph.tensors)),
        decoder=("deeplabv3plus" if slim[1] else "deeplabv3") if slim else _decoder(graph, pyramid),
        atrous_branches=slim[0] if slim else pyramid[1] if pyramid else None,
        batch_norm_layers=kinds["batch_norm"],
        norm_layers=kinds["norm"],
        dtype=max(sizes, key=lambda name: sizes[name]) if sizes else None,
        tied=graph.tied,
    )


def stem_layer(graph: LayerGraph) -> str | None:
    """Path of the first convolution, or ``None``. With one input channel its kernel looks like a depthwise one.

    Of a file whose names stand in alphabetical order, as safetensors has them, that is the first one that takes the channels of an image.
    """
    found = [layer for layer in graph.layers if layer.kind in _CONVOLUTIONS and "weight" in layer.tensors]
    if found and _input_channels(found[0], graph) not in _OF_IMAGES and graph.is_alphabetical:
        found = [layer for layer in found if _input_channels(layer, graph) in _OF_IMAGES] or found
    return found[0].path if found else None


def stem_channels(graph: LayerGraph) -> int | None:
    """Input channels of the first convolution, or ``None``."""
    path = stem_layer(graph)
    return None if path is None else _input_channels(graph.by_path[path], graph)


def _input_channels(layer: Layer, graph: LayerGraph) -> int | None:
    shape = layer.tensors["weight"].shape
    if len(shape) < 3:
        return None
    return shape[-2] if graph.framework in ("keras", "tensorflow") else shape[1]


def _pyramid(graph: LayerGraph) -> tuple[str, int] | None:
    """Path and number of 3×3 branches of an atrous spatial pyramid pooling module (Chen et al. 2017, arXiv:1706.05587).

    Its branches lie in a module named ``aspp…``, or in a list ``convs`` that a 1×1 branch opens; other lists of 3×3 layers
    (the towers of a detector) have none.
    """
    wide: dict[str, set[str]] = {}
    narrow: set[str] = set()
    for layer in graph.layers:
        weight = layer.tensors.get("weight")
        if weight is None or len(weight.shape) != 4:
            continue
        path = split_name(layer.path)
        at = next((i for i, word in enumerate(path) if word.startswith("aspp") or word == "convs"), None)
        if at is None:
            continue
        named = path[at].startswith("aspp")
        if named and "convs" in path[at:]:
            at = path.index("convs", at)
        # ``aspp1``, ``aspp2`` … side by side are the branches of what holds them.
        scope = ".".join(path[: at if path[at][-1:].isdecimal() else at + 1])
        branch = path[at] if path[at][-1:].isdecimal() else ".".join(path[at + 1 : at + 2])
        if weight.shape[2:] == (3, 3):
            wide.setdefault(scope, set()).add(branch)
        elif weight.shape[2:] == (1, 1) and (named or branch in ("0", "")):
            narrow.add(scope)
    found = [(scope, len(branches)) for scope, branches in wide.items() if len(branches) >= _MIN_BRANCHES and scope in narrow]
    return max(found, key=lambda pair: pair[1], default=None)


def _decoder(graph: LayerGraph, pyramid: tuple[str, int] | None) -> str | None:
    """DeepLabV3+ reduces the low-level features to 48 channels (Chen et al. 2018, arXiv:1802.02611, section 4.1)."""
    if pyramid is None:
        return None
    for layer in graph.layers:
        weight = layer.tensors.get("weight")
        if (
            weight is not None
            and weight.shape[:1] == (48,)
            and weight.shape[2:] == (1, 1)
            and BACKBONE_WORDS.isdisjoint(split_name(layer.path))
            and not is_under(layer.path, pyramid[0])
        ):
            return "deeplabv3plus"
    return "deeplabv3"
