"""Align by position, as Keras itself restores: the n-th layer with weights is the n-th layer, its n-th weight the n-th weight."""

from __future__ import annotations

from types import MappingProxyType

from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import Layer, LayerGraph


def align_by_position(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment | None:
    """Pair two Keras graphs that are the same sequence of layers, whatever these are called (``conv2d_75`` and ``conv2d``).

    Parameters
    ----------
    source, target:
        What a file holds, and what a model wants.
    named:
        What names say: where they say anything else, position says nothing.

    Returns
    -------
    Alignment or None
        A pair for every tensor, or None: then the graphs are not the same sequence of equal shapes, or names contradict.
    """
    if source.framework != "keras" or target.framework != "keras" or len(source) != len(target):
        return None
    if [_shapes(layer) for layer in source.layers] != [_shapes(layer) for layer in target.layers]:
        return None
    in_order = {new.name: old.name for old, new in zip(source, target, strict=True)}
    if any(pair.sources != (in_order[name],) for name, pair in named.pairs.items()):
        return None
    evidence = ("the same place in the same sequence of layers and shapes, by which Keras restores",)
    pairs = {name: named.pairs.get(name) or Pair(name, (old,), (), "ordered", 0.97, evidence) for name, old in in_order.items()}
    return Alignment(MappingProxyType(pairs), (), (), structural=tuple(name for name in pairs if name not in named.pairs))


def _shapes(layer: Layer) -> list[tuple[int, ...]]:
    return [spec.shape for spec in layer.tensors.values()]
