"""``keras.Model`` → :class:`~ckptaudit.graph.LayerGraph`: its weights by their paths, in the order in which Keras saves them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.keras_places import keras_places
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import LayerGraph, Module, TensorSpec
from ckptaudit.graph.keras_settings import keras_settings
from ckptaudit.graph.kinds import BUFFER_ROLES, role_of
from ckptaudit.graph.names import leaf, parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckptaudit.arch.keras_build import Made
    from ckptaudit.graph import Origin


def keras_graph(model: Any, label: str, made: Made | None = None) -> LayerGraph:
    """Describe a model: names, shapes and dtypes of ``model.weights`` without random states, its layers, and its dataflow.

    Parameters
    ----------
    model:
        It is only looked at.
    label:
        What the user calls it, for messages.
    made:
        The lines that made its layers, where they were recorded.

    Raises
    ------
    ArchitectureError
        It has no weights yet, because the size of its input is unknown.
    """
    layers = list(_every_layer(model))
    if not model.built or any(not layer.built for layer in layers):
        layer = next((layer for layer in layers if not layer.built), model)
        raise ArchitectureError(
            f"{label}: the weights of {layer.name!r} are made when the size of its input is known; give the model an Input"
        )
    weights = [weight for weight in model.weights if "seed_generator" not in _path(weight)]
    names = _unique([_path(weight) for weight in weights])
    specs = [
        TensorSpec(name, tuple(map(int, weight.shape)), str(getattr(weight.dtype, "name", weight.dtype)), _is_buffer(name))
        for name, weight in zip(names, weights, strict=True)
    ]
    paths = {id(layer): _layer_path(layer, model) for layer in layers}
    modules = {"": Module(type(model).__name__, _origin(model, made))}
    for layer in layers:
        modules.setdefault(paths[id(layer)], Module(type(layer).__name__, _origin(layer, made), _settings(layer)))
    return LayerGraph.from_tensors(
        specs,
        "keras",
        modules=MappingProxyType(modules),
        feeds=tuple(dict.fromkeys(_feeds(model, {parent(name) for name in names}))),
        places=keras_places(model, {id(weight): name for weight, name in zip(weights, names, strict=True)}),
    )


def _every_layer(model: Any) -> Iterator[Any]:
    """All layers below the model, outer before inner, each once."""
    todo, seen = [model], {id(model)}
    while todo:
        layer = todo.pop()
        if layer is not model:
            yield layer
        # What a layer is made of is known to no public attribute, but for models.
        parts: Sequence[Any] = getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ()
        below = [child for child in parts if id(child) not in seen]
        seen.update(map(id, below))
        todo.extend(reversed(below))


def _path(weight: Any) -> str:
    return str(getattr(weight, "path", None) or weight.name)


def _unique(names: Sequence[str]) -> list[str]:
    """``names``, those that come again with a number at their layer's name: two layers of a subclassed model may share one."""
    taken: dict[str, int] = {}
    found = []
    for name in names:
        again = taken.get(name, 0)
        taken[name] = again + 1
        found.append(f"{parent(name)}_{again}/{leaf(name)}" if again else name)
    return found


def _is_buffer(name: str) -> bool:
    return role_of(leaf(name), "keras") in BUFFER_ROLES


def _layer_path(layer: Any, model: Any) -> str:
    own = [_path(weight) for weight in layer.weights]
    told = getattr(layer, "path", None)
    # Layers without weights have no path of their own; a layer of Keras 2 has none at all.
    return str(told or (parent(own[0]) if len({parent(path) for path in own}) == 1 else layer.name))


def _settings(layer: Any) -> Mapping[str, Any]:
    if getattr(layer, "layers", None):
        return MappingProxyType({})
    try:
        config = layer.get_config()
    except Exception:  # a layer of the user's that does not say how it was made
        return MappingProxyType({})
    return keras_settings(config if isinstance(config, dict) else {})


def _origin(layer: Any, made: Made | None) -> Origin | None:
    from ckptaudit.arch.torch_module import shown_origin

    line = made.get(id(layer), (layer, None))[1] if made else None
    return None if line is None else shown_origin(line)


def _feeds(model: Any, owners: set[str]) -> Iterator[tuple[str, str]]:
    """Which layers with weights feed which, through those that have none; nothing for a model that is no graph of layers."""
    known: dict[int, frozenset[str]] = {}
    yield from _flow(model, frozenset(), owners, known)


def _flow(model: Any, entering: frozenset[str], owners: set[str], known: dict[int, frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Pass through the operations of one model in the order of computation; ``known`` gets what leaves each of them."""
    for operation in getattr(model, "operations", ()):
        sources = frozenset[str]().union(*(known.get(id(before), frozenset()) for before in _inputs(operation)))
        if type(operation).__name__ == "InputLayer":
            sources = entering
        path = str(getattr(operation, "path", None))
        below = {owner for owner in owners if owner == path or owner.startswith(f"{path}/")}
        if getattr(operation, "operations", None):
            yield from _flow(operation, sources, owners, known)
            outputs = [_operation(tensor) for tensor in operation.outputs]
            known[id(operation)] = frozenset[str]().union(*(known.get(id(output), frozenset()) for output in outputs))
        elif len(below) == 1:
            yield from ((source, owner) for owner in below for source in sorted(sources))
            known[id(operation)] = frozenset(below)
        else:  # what is in a layer that is made of several is not told
            known[id(operation)] = frozenset() if below else sources


def _inputs(operation: Any) -> Iterator[Any]:
    for node in getattr(operation, "_inbound_nodes", ()):
        for tensor in getattr(node, "input_tensors", ()):
            yield _operation(tensor)


def _operation(tensor: Any) -> Any:
    """What computes a symbolic tensor, as Keras notes it on the tensor."""
    return getattr(tensor, "_keras_history", (None,))[0]
