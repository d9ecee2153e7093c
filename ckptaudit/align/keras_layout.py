"""Where Keras would save each weight of a model that is known from a catalogue: derived from its layers, their order and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.graph import LayerGraph
from ckptaudit.graph.layouts import BY_NAME, LEGACY, NUMBERED
from ckptaudit.graph.names import is_under, leaf, parent
from ckptaudit.read.keras_names import snake_case

_MODELS = frozenset({"Functional", "Sequential", "Model"})
_NOTHING: Mapping[str, Mapping[str, str]] = MappingProxyType({})


def derived_places(graph: LayerGraph) -> Mapping[str, Mapping[str, str]]:
    """Places by layout, as :class:`~ckptaudit.graph.LayerGraph` holds them; empty where a weight is in a layer that is made of others.

    Only models are looked into: what else holds layers names them by attributes, which nothing here tells.
    """
    modules = graph.modules
    if graph.framework != "keras" or "" not in modules or modules[""].type_name not in _MODELS:
        return _NOTHING
    inside = {"": ""}
    top: dict[str, str] = {}
    counts: dict[tuple[str, str], int] = {}
    for path, module in modules.items():
        if not path:
            continue
        holder = _holder(path, modules)
        if holder not in inside:
            continue
        word = snake_case(module.type_name)
        number = counts.get((holder, word), 0)
        counts[holder, word] = number + 1
        place = f"{inside[holder]}layers/{word}{f'_{number}' if number else ''}/"
        top[path] = path if not holder else top[holder]
        if module.type_name in _MODELS:
            inside[path] = place
        else:
            inside.setdefault(f"{path}\0", place)
    numbered: dict[str, str] = {}
    held: dict[str, list[str]] = {}
    variables: dict[str, int] = {}
    for name in graph.tensors:
        path = parent(name)
        place = inside.get(f"{path}\0", "")
        if not place:
            return _NOTHING
        numbered[name] = f"{place}vars/{variables.get(path, 0)}"
        variables[path] = variables.get(path, 0) + 1
        held.setdefault(top[path], []).append(name)
    legacy: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for number, path in enumerate(path for path in top if path in held):
        trained_first = sorted(held[path], key=lambda name: graph.tensors[name].buffer)
        legacy.update((name, f"{number}/{position}") for position, name in enumerate(trained_first))
        by_name.update((name, f"{leaf(path)}/{position}") for position, name in enumerate(trained_first))
    return {LEGACY: legacy, BY_NAME: by_name, NUMBERED: numbered}


def _holder(path: str, modules: Mapping[str, object]) -> str:
    """The module that holds another; a name with a slash in it is no path."""
    above = parent(path)
    while above and above not in modules:
        above = parent(above)
    return above if is_under(path, above) else ""
