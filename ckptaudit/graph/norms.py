"""Which BatchNorm stands behind which kernel, as far as a graph tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ckptaudit.graph.heads import outputs
from ckptaudit.graph.names import leaf, parent
from ckptaudit.lazily import compiled_when_used

if TYPE_CHECKING:
    from ckptaudit.graph.layers import Layer, LayerGraph

__all__ = ["norms_behind"]

_NUMBERS = compiled_when_used(r"\d+")
_ROLES = ("weight", "bias", "running_mean", "running_var")


def norms_behind(graph: LayerGraph) -> Mapping[str, Layer]:
    """The complete BatchNorm behind each layer with a kernel, by the layer's path.

    It is the next layer in definition order. Where names stand in the order of the alphabet, it is the next of a list (``features.0``,
    ``features.1``), or the only one that bears the kernel's number beside it (``conv1``, ``bn1``), unless its channels say somewhere
    that layers of these names follow each other otherwise.
    """
    if graph.is_alphabetical:
        return dict(_by_names(graph))
    return {
        layer.path: graph.layers[layer.index + 1]
        for layer in graph.layers[:-1]
        if _has_kernel(layer) and _is_complete(graph.layers[layer.index + 1])
    }


def _by_names(graph: LayerGraph) -> Iterator[tuple[str, Layer]]:
    kernels: dict[tuple[str, str], list[Layer]] = {}
    norms: dict[tuple[str, str], list[Layer]] = {}
    for layer in graph.layers:
        kind = kernels if _has_kernel(layer) else norms if layer.kind == "batch_norm" else None
        if kind is None:
            continue
        scope, word = parent(layer.path), leaf(layer.path)
        if word.isdecimal():
            behind = graph.by_path.get(f"{layer.path[: -len(word)]}{int(word) + 1}")
            if kind is kernels and behind is not None and _is_complete(behind):
                yield layer.path, behind
        else:
            kind.setdefault((scope, ",".join(_NUMBERS.findall(word))), []).append(layer)
    alike: dict[tuple[str, str], list[tuple[Layer, Layer]]] = {}
    for place, found in kernels.items():
        beside = norms.get(place, [])
        if len(found) == len(beside) == 1:
            alike.setdefault((leaf(found[0].path), leaf(beside[0].path)), []).append((found[0], beside[0]))
    for pairs in alike.values():
        if all(_is_complete(norm) and norm.tensors["weight"].shape == (outputs(kernel, graph.framework),) for kernel, norm in pairs):
            yield from ((kernel.path, norm) for kernel, norm in pairs)


def _has_kernel(layer: Layer) -> bool:
    weight = layer.tensors.get("weight")
    return weight is not None and len(weight.shape) > 1


def _is_complete(layer: Layer) -> bool:
    shapes = {layer.tensors[role].shape if role in layer.tensors else None for role in _ROLES}
    return layer.kind == "batch_norm" and len(shapes) == 1 and None not in shapes
