"""The order in which the layers of a Keras model were made, where Keras named them itself.

A file has them in the order of the dataflow's depth, branch beside branch, or class by class; whoever wrote the same network for torch
wrote it down in the order of its code. Keras' numbers count the layers of a class in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.align.keras_loading import automatic_names
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import parent

#: Kinds whose result a normalisation behind them takes.
_KERNELS = frozenset({"conv", "depthwise_conv", "linear"})


def in_order_of_creation(graph: LayerGraph) -> LayerGraph:
    """The same tensors with the layers of each class, among the places that the class has, by their numbers.

    Where normalisations and kernels are as many, and each has as many channels as its counterpart by number, the one comes right behind the
    other. A graph whose layers have names of their own is given back as it is.
    """
    numbered = automatic_names(graph) if graph.framework == "keras" else {}
    if not numbered:
        return graph
    by_class: dict[tuple[str, str], list[str]] = {}
    for layer in graph.layers:
        if layer.path in numbered:
            by_class.setdefault((parent(layer.path), numbered[layer.path][0]), []).append(layer.path)
    ordered = {key: sorted(paths, key=lambda path: numbered[path][1]) for key, paths in by_class.items()}
    instead = {old: new for key, paths in by_class.items() for old, new in zip(paths, ordered[key], strict=True)}
    order = [instead.get(layer.path, layer.path) for layer in graph.layers]
    for (above, _), paths in ordered.items():
        if graph.by_path[paths[0]].kind != "batch_norm":
            continue
        for (beside, _), kernels in ordered.items():
            if above == beside and len(kernels) == len(paths) and _fit(graph.by_path, kernels, paths):
                order = _behind(order, dict(zip(kernels, paths, strict=True)))
                break
    return _reordered(graph, order)


def _fit(layers: Mapping[str, Layer], kernels: list[str], norms: list[str]) -> bool:
    """Whether each of these kernels gives as many channels as the normalisation of its number takes."""
    return all(
        layers[kernel].kind in _KERNELS and _channels(layers[kernel]) == layers[norm].tensors["running_mean"].shape[-1]
        for kernel, norm in zip(kernels, norms, strict=True)
        if "running_mean" in layers[norm].tensors
    )


def _channels(layer: Layer) -> int:
    """How many channels a layer gives; Keras has them last, and those of a depthwise convolution in two axes."""
    shape = next(iter(layer.tensors.values())).shape
    return shape[-1] * shape[-2] if layer.kind == "depthwise_conv" and len(shape) > 1 else shape[-1]


def _behind(order: list[str], follower: Mapping[str, str]) -> list[str]:
    """The same paths, each follower right behind its leader."""
    following = set(follower.values())
    return [path for leader in order if leader not in following for path in (leader, *filter(None, [follower.get(leader)]))]


def _reordered(graph: LayerGraph, order: list[str]) -> LayerGraph:
    by_layer = {layer.path: [spec.name for spec in layer.tensors.values()] for layer in graph.layers}
    names = [name for path in order for name in by_layer[path]]
    if names == list(graph.tensors):
        return graph
    return LayerGraph(
        MappingProxyType({name: graph.tensors[name] for name in names}),
        graph.framework,
        graph.modules,
        graph.feeds,
        graph.tied,
        graph.places,
        graph.computation,
    )
