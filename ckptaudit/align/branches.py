"""Parallel branches of the file that the model has as one convolution: RepVGG, MobileOne and their kin, made ready for deployment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import prod

from ckptaudit.align.lost_norms import norm_behind
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import parent
from ckptaudit.records import dataclass

__all__ = ["Branch", "Merged", "merged_branches"]

#: Roles whose tensors go into the weight and into the bias, of a BatchNorm.
_SCALES, _SHIFTS = ("weight", "running_var"), ("bias", "weight", "running_mean", "running_var")
#: More layers than so many in one place are no branches of one convolution.
_MAX_LAYERS = 32


@dataclass(frozen=True, slots=True)
class Branch:
    """A convolution with the BatchNorm behind it, or (``conv`` is None) a BatchNorm of the input alone."""

    conv: Layer | None
    norm: Layer

    @property
    def kind(self) -> str:
        """What :class:`~ckptaudit.align.ops.Merge` calls it."""
        return "norm" if self.conv is None else "biased" if "bias" in self.conv.tensors else "conv"

    @property
    def scales(self) -> tuple[str, ...]:
        """The file's tensors that go into the weight."""
        return (*([self.conv.tensors["weight"].name] if self.conv else []), *(self.norm.tensors[role].name for role in _SCALES))

    @property
    def shifts(self) -> tuple[str, ...]:
        """The file's tensors that go into the bias."""
        own = [self.conv.tensors["bias"].name] if self.conv and "bias" in self.conv.tensors else []
        return (*(self.norm.tensors[role].name for role in _SHIFTS), *own)


@dataclass(frozen=True, slots=True)
class Merged:
    """A convolution of the model and the branches of the file that add up to it."""

    layer: Layer
    branches: tuple[Branch, ...]


def merged_branches(source: LayerGraph, target: LayerGraph, wrappers: Collection[str]) -> Iterator[Merged]:
    """Find them: the model has a convolution with a bias in a module where the file has several that fit, with their BatchNorm, instead.

    Parameters
    ----------
    wrappers:
        Segments that precede the names of the file alone (``module``).
    """
    if not source.framework == target.framework == "torch" or not any(layer.kind == "batch_norm" for layer in source.layers):
        return
    prefixes = ("", *(f"{wrapper}." for wrapper in wrappers))
    places: dict[str, list[Layer]] = {}
    for layer in target.layers:
        if {"weight", "bias"} <= layer.tensors.keys() and len(layer.tensors["weight"].shape) > 2 and (scope := parent(layer.path)):
            for prefix in prefixes:
                if prefix + layer.path not in source.by_path:
                    places.setdefault(prefix + scope, []).append(layer)
    for place, inside in _below(source, {place for place, layers in places.items() if len(layers) == 1}).items():
        (layer,) = places[place]
        scope = parent(layer.path)
        branches = _branches(source, [found for found in inside if scope + found.path[len(place) :] not in target.by_path])
        if branches and _adds_up(branches, layer.tensors["weight"].shape):
            yield Merged(layer, branches)


def _below(graph: LayerGraph, places: Collection[str]) -> dict[str, list[Layer]]:
    """Layers of the file below each place; places that hold too many are left out."""
    found: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        path = layer.path
        while path := parent(path):
            if path in places:
                found.setdefault(path, []).append(layer)
    return {place: layers for place, layers in found.items() if len(layers) <= _MAX_LAYERS}


def _branches(graph: LayerGraph, layers: Sequence[Layer]) -> tuple[Branch, ...] | None:
    """The layers as branches; None if one is none."""
    behind: dict[str, Layer] = {}
    for layer in layers:
        weight = layer.tensors.get("weight")
        if weight is None:
            return None
        norm = norm_behind(graph, weight.name, weight.shape[0]) if len(weight.shape) > 2 else None
        if norm is not None and norm in layers:
            behind[layer.path] = norm
    branches = []
    for layer in layers:
        if layer.path in behind:
            branches.append(Branch(layer, behind[layer.path]))
        elif layer.kind != "batch_norm" or not {*_SCALES, *_SHIFTS} <= layer.tensors.keys():
            return None
        elif layer not in behind.values():
            branches.append(Branch(None, layer))
    return tuple(branches)


def _adds_up(branches: Sequence[Branch], shape: Sequence[int]) -> bool:
    """Whether the branches give a kernel of this shape."""
    kernels = [branch.conv.tensors["weight"].shape for branch in branches if branch.conv is not None]
    if not kernels or max(kernels, key=prod) != tuple(shape):
        return False
    for kernel in kernels:
        if len(kernel) != len(shape) or kernel[:2] != tuple(shape[:2]) or any((n - k) % 2 for n, k in zip(shape, kernel, strict=True)):
            return False
    lone = [branch.norm for branch in branches if branch.conv is None]
    odd = all(n % 2 for n in shape[2:])
    return all(norm.tensors["weight"].shape == (shape[0],) and shape[0] % shape[1] == 0 and odd for norm in lone)
