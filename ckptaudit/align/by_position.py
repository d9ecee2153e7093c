"""Align by position, as Keras itself restores: the n-th layer with weights is the n-th layer, its n-th weight the n-th weight."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.align.keras_loading import automatic_names, load_as_keras, without_numbers
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.names import parent
from ckptaudit.records import replace

_EVIDENCE = "the same place in the same sequence of layers and shapes, by which Keras restores"
_DOUBT = "Keras numbered both and restores by place, which says otherwise than the name"


def align_by_position(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment | None:
    """Pair two Keras graphs that are the same sequence of layers, whatever these are called (``conv2d_75`` and ``conv2d``).

    Parameters
    ----------
    source, target:
        What a file holds, and what a model wants.
    named:
        What names say: where a name that an author gave says anything else, position says nothing.

    Returns
    -------
    Alignment or None
        Every tensor paired, or ``mismatched`` where names but for Keras' numbers are the same at every place and a few shapes are not.
        None where the graphs are not the same sequence, or names contradict.
    """
    if source.framework != "keras" or target.framework != "keras" or len(source) != len(target):
        return None
    in_order = _same_place(source, target)
    if in_order is None or _contradicted(source, target, named, in_order):
        return None
    other = {new: old for new, old in in_order.items() if source.tensors[old].shape != target.tensors[new].shape}
    pairs = {
        new: Pair(new, (old,), (), "ordered", 0.97, (_EVIDENCE,))
        if (known := named.pairs.get(new)) is None or known.sources != (old,)
        else known
        for new, old in in_order.items()
        if new not in other
    }
    return Alignment(
        MappingProxyType(pairs),
        (),
        (),
        MappingProxyType(other),
        structural=tuple(name for name in pairs if name not in named.pairs or named.pairs[name].sources != pairs[name].sources),
    )


def doubted_by_position(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment:
    """The same pairs; those are ambiguous whose equal names Keras gave, where it would restore everything at other places.

    The numbers count in the order in which layers were made, places in that of the network: of a changed model neither decides.
    """
    found = load_as_keras(source, target)
    if found is None or found.refused or len(source) != len(target):
        return named
    numbered = automatic_names(target)
    doubtful = {
        name: replace(pair, grade="ambiguous", confidence=0.5, evidence=(*pair.evidence, _DOUBT), runner_up=(found.sets[name],))
        for name, pair in named.pairs.items()
        if pair.sources != (found.sets[name],) and parent(name) in numbered
    }
    if not doubtful:
        return named
    return replace(named, pairs=MappingProxyType({name: doubtful.get(name, pair) for name, pair in named.pairs.items()}))


def _same_place(source: LayerGraph, target: LayerGraph) -> Mapping[str, str] | None:
    """The file's tensor for each of the model's, by Keras' places where both sides tell them, else by the sequence of shapes."""
    found = load_as_keras(source, target)
    if found is not None:
        if not found.refused:
            return found.sets
        if found.refused == "shapes":
            here, there = automatic_names(source), automatic_names(target)
            alike = all(without_numbers(old, here) == without_numbers(new, there) for new, old in found.sets.items())
            return {name: found.sets[name] for name in target.tensors} if alike else None
        return None
    if [_shapes(layer) for layer in source.layers] != [_shapes(layer) for layer in target.layers]:
        return None
    return {new.name: old.name for old, new in zip(source, target, strict=True)}


def _contradicted(source: LayerGraph, target: LayerGraph, named: Alignment, in_order: Mapping[str, str]) -> bool:
    """Whether a name that an author gave says another pair."""
    here, there = automatic_names(source), automatic_names(target)
    return any(
        pair.sources != (in_order[name],) and not (parent(name) in there and parent(pair.sources[0]) in here)
        for name, pair in named.pairs.items()
    )


def _shapes(layer: Layer) -> list[tuple[int, ...]]:
    return [spec.shape for spec in layer.tensors.values()]
