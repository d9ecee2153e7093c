"""The order in which the layers of a Keras model were made, where Keras named them itself.

A file has them in the order of the dataflow's depth, branch beside branch, or class by class; whoever wrote the same network for torch
wrote it down in the order of its code. Keras' numbers count the layers of a class in that order.
"""

from __future__ import annotations

from math import prod
from types import MappingProxyType

from ckptaudit.align.keras_loading import automatic_names
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import parent

#: Kinds whose result a normalisation behind them takes.
_KERNELS = frozenset({"conv", "depthwise_conv", "linear"})


def in_order_of_creation(graph: LayerGraph) -> LayerGraph:
    """The same tensors with the layers of each class, among the places that the class has, by their numbers.

    Where normalisations and kernels of a module are as many, and each has as many channels as its counterpart by number, the one comes
    right behind the other. A graph whose layers have names of their own is given back as it is.
    """
    numbered = automatic_names(graph) if graph.framework == "keras" else {}
    if not numbered:
        return graph
    modules: dict[str, dict[str, list[str]]] = {}
    for layer in graph.layers:
        if layer.path in numbered:
            modules.setdefault(parent(layer.path), {}).setdefault(numbered[layer.path][0], []).append(layer.path)
    instead: dict[str, str] = {}
    followers: dict[str, str] = {}
    for classes in modules.values():
        ordered = {stem: sorted(paths, key=lambda path: numbered[path][1]) for stem, paths in classes.items()}
        for stem, paths in classes.items():
            instead.update(zip(paths, ordered[stem], strict=True))
        followers |= _followers([[graph.by_path[path] for path in paths] for paths in ordered.values()])
    following = set(followers.values())
    order = [instead.get(layer.path, layer.path) for layer in graph.layers]
    return _reordered(graph, [path for first in order if first not in following for path in (first, *filter(None, [followers.get(first)]))])


def _followers(classes: list[list[Layer]]) -> dict[str, str]:
    """Each kernel's normalisation, by path, for the first class of kernels whose members fit those of a class of normalisations."""
    found: dict[str, str] = {}
    for norms in classes:
        for kernels in classes if norms[0].kind == "batch_norm" else ():
            pairs = list(zip(kernels, norms, strict=False))
            if len(kernels) == len(norms) and all(kernel.path not in found and _fit(kernel, norm) for kernel, norm in pairs):
                found |= {kernel.path: norm.path for kernel, norm in pairs}
                break
    return found


def _fit(kernel: Layer, norm: Layer) -> bool:
    """Whether a kernel gives as many channels as a normalisation takes; Keras has them last, those of a depthwise kernel in two axes."""
    weight, mean = kernel.tensors.get("weight"), norm.tensors.get("running_mean")
    if kernel.kind not in _KERNELS or weight is None or mean is None:
        return False
    channels = prod(weight.shape[-2:]) if kernel.kind == "depthwise_conv" else weight.shape[-1]
    return mean.shape == (channels,)


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
