"""Facts of a network that a person would state: backbone, classes, input channels, auxiliary head."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ckptaudit.graph.backbones import backbone_of
from ckptaudit.graph.heads import auxiliary_scopes, main_head
from ckptaudit.graph.layers import LayerGraph
from ckptaudit.graph.names import split_name
from ckptaudit.graph.tensors import is_float


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
        return asdict(self)


def facts_of(graph: LayerGraph) -> Facts:
    """Collect the facts of a graph; nothing is read but names and shapes."""
    kinds = Counter(layer.kind for layer in graph.layers)
    sizes: Counter[str] = Counter()
    for spec in graph:
        if is_float(spec.dtype):
            sizes[spec.dtype] += spec.numel
    head = main_head(graph)
    branches = _atrous_branches(graph)
    return Facts(
        backbone=backbone_of(graph),
        num_classes=head.outputs if head else None,
        head=head.path if head else None,
        in_channels=stem_channels(graph),
        aux_head=bool(auxiliary_scopes(graph.tensors)),
        decoder=_decoder(graph, branches),
        atrous_branches=branches,
        batch_norm_layers=kinds["batch_norm"],
        norm_layers=kinds["norm"],
        dtype=max(sizes, key=lambda name: sizes[name]) if sizes else None,
        tied=graph.tied,
    )


def stem_layer(graph: LayerGraph) -> str | None:
    """Path of the first full convolution, or ``None``."""
    return next((layer.path for layer in graph.layers if layer.kind == "conv"), None)


def stem_channels(graph: LayerGraph) -> int | None:
    """Input channels of the first full convolution, or ``None``."""
    path = stem_layer(graph)
    if path is None:
        return None
    shape = graph.by_path[path].tensors["weight"].shape if "weight" in graph.by_path[path].tensors else ()
    if len(shape) < 3:
        return None
    return shape[-2] if graph.framework in ("keras", "tensorflow") else shape[1]


def _atrous_branches(graph: LayerGraph) -> int | None:
    """3×3 convolutions of an atrous spatial pyramid pooling module (Chen et al. 2017, arXiv:1706.05587)."""
    branches: dict[str, set[str]] = {}
    for layer in graph.layers:
        weight = layer.tensors.get("weight")
        if weight is None or len(weight.shape) != 4 or weight.shape[2:] != (3, 3):
            continue
        path = split_name(layer.path)
        if "convs" in path:
            at = path.index("convs")
            branches.setdefault("/".join(path[:at]), set()).add("/".join(path[at + 1 : at + 2]))
        elif any(word.startswith("aspp") for word in path):
            branches.setdefault("aspp", set()).add(layer.path)
    most = max((len(found) for found in branches.values()), default=0)
    return most if most >= 3 else None


def _decoder(graph: LayerGraph, branches: int | None) -> str | None:
    if branches is None:
        return None
    # DeepLabV3+ reduces the low-level features to 48 channels (Chen et al. 2018, arXiv:1802.02611, section 4.1).
    low_level = any(
        layer.kind == "conv"
        and "weight" in layer.tensors
        and layer.tensors["weight"].shape[0] == 48
        and layer.tensors["weight"].shape[2:] == (1, 1)
        for layer in graph.layers
        if not layer.path.startswith("backbone") and ".backbone." not in layer.path and not layer.path.startswith("encoder")
    )
    return "deeplabv3plus" if low_level else "deeplabv3"
