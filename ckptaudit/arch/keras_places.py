"""Where Keras puts the weights of a model in its files: asked of Keras itself, whose rules have changed with its versions.

Keras restores by these places and looks at no name. A model whose equal-shaped layers were put in another order is restored without
a word, each layer with what another one learned.
"""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.graph.layouts import BY_NAME, LEGACY, NUMBERED

if TYPE_CHECKING:
    from collections.abc import Mapping


def keras_places(model: Any, names: Mapping[int, str]) -> Mapping[str, Mapping[str, str]]:
    """Places by layout and name; a layout is absent where it cannot be told (a model of another library, another version of Keras).

    Parameters
    ----------
    model:
        It is only looked at.
    names:
        What its weights are called, by ``id``.
    """
    found = {LEGACY: _legacy(model, names), BY_NAME: _legacy(model, names, by_name=True), NUMBERED: _numbered(model, names)}
    return MappingProxyType({layout: MappingProxyType(places) for layout, places in found.items() if places})


def _legacy(model: Any, names: Mapping[int, str], *, by_name: bool = False) -> dict[str, str]:
    """The n-th layer with weights, or its name, and the n-th weight of it: those that are trained first, as they are set now."""
    holders = [(layer.name, weights) for layer in getattr(model, "layers", ()) if (weights := _of_layer(layer))]
    places = {
        id(weight): f"{name if by_name else number}/{position}"
        for number, (name, weights) in enumerate(holders)
        for position, weight in enumerate(weights)
    }
    return {name: places[key] for key, name in names.items()} if names.keys() <= places.keys() else {}


def _of_layer(layer: Any) -> list[Any]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _numbered(model: Any, names: Mapping[int, str]) -> dict[str, str]:
    """Let Keras save the model into a store that notes where each variable goes, and looks at no value."""
    saving = sys.modules.get("keras.src.saving.saving_lib")
    store, save = getattr(saving, "H5IOStore", None), getattr(saving, "_save_state", None)
    if store is None or save is None or not isinstance(model, getattr(sys.modules.get("keras"), "Model", ())):
        return {}
    places: dict[int, str] = {}

    class Store(store):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.at = ""

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> Any:
            self.at = path
            return self

        def __setitem__(self, key: str, value: Any) -> None:
            places.setdefault(id(value), "/".join(part for part in (self.at, "vars", key) if part))

    try:
        save(model, weights_store=Store(), assets_store=None, inner_path="", visited_saveables=set())
    except Exception:  # Keras' own parts, and layers of the user's that save themselves: then it is not known
        return {}
    return {name: places[key] for key, name in names.items()} if names.keys() <= places.keys() else {}
