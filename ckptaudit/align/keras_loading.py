"""What Keras itself makes of a file: it restores by places and looks at no name.

In a legacy file the n-th layer with weights is the model's n-th; in a numbered one (``.weights.h5``, ``.keras``) a layer is found by its
class and its number within that class (``layers/conv2d_1``). Either way two equal-shaped layers that stand in another order are exchanged
without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from ckptaudit.align.keras_layout import derived_places
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.layouts import LEGACY, NUMBERED
from ckptaudit.graph.names import leaf, parent
from ckptaudit.lazily import compiled_when_used
from ckptaudit.read.keras_names import class_of, snake_case
from ckptaudit.records import dataclass, field

Refusal = Literal["", "layers", "weights", "shapes"]

_COUNTER = compiled_when_used(r"_(\d+)\Z")


@dataclass(frozen=True, slots=True)
class KerasLoad:
    """What ``load_weights`` does with a file, without ``by_name`` and ``skip_mismatch``.

    Attributes
    ----------
    layout:
        The file's: see :class:`ckptaudit.graph.LayerGraph`.
    sets:
        Name in the model → name in the file of the tensor at the same place, equal in shape or not.
    refused:
        Why it raises: other numbers of ``layers`` or of ``weights`` of a layer, or other ``shapes``; ``""`` where it loads.
    layers:
        Layers with weights, in the file and in the model.
    at:
        Places of layers in the model for which the file has no weights, or another number of them.
    places:
        Where Keras looks for each tensor of the model.
    """

    layout: str
    sets: Mapping[str, str]
    refused: Refusal
    layers: tuple[int, int]
    at: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def load_as_keras(source: LayerGraph, target: LayerGraph, layouts: Collection[str] = (LEGACY, NUMBERED)) -> KerasLoad | None:
    """What Keras would set; None where either side does not tell its places."""
    if not source.places or source.framework != "keras" or target.framework != "keras":
        return None
    places = target.places or derived_places(target)
    layout = next((layout for layout in layouts if layout in source.places and layout in places), None)
    if layout is None:
        return None
    held, wanted = source.places[layout], places[layout]
    by_place = {place: name for name, place in held.items()}
    sets = {name: by_place[place] for name, place in wanted.items() if place in by_place}
    here, there = _weights_of(held.values()), _weights_of(wanted.values())
    layers = len(here), len(there)
    at = tuple(place for place, count in there.items() if here.get(place) != count)
    refused: Refusal = ""
    if layout == LEGACY and layers[0] != layers[1]:
        refused = "layers"
    elif at:
        refused = "weights"
    elif any(source.tensors[old].shape != target.tensors[new].shape for new, old in sets.items()):
        refused = "shapes"
    return KerasLoad(layout, MappingProxyType(sets), refused, layers, at, wanted)


def _weights_of(places: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for place in places:
        layer = place.rpartition("/")[0]
        counts[layer] = counts.get(layer, 0) + 1
    return counts


def automatic(path: str, type_name: str = "") -> tuple[str, int] | None:
    """Class and number of a layer that Keras named itself (``conv2d_75``); None where an author did.

    Such a name says which layer of its class it was in one session: with another model built before, all are called otherwise.
    """
    word = leaf(path)
    found = _COUNTER.search(word)
    stem = word[: found.start()] if found else word
    if stem != snake_case(type_name) and not class_of(stem):
        return None
    return stem, int(found[1]) if found else 0


def automatic_names(graph: LayerGraph) -> dict[str, tuple[str, int]]:
    """Class and number of every layer of a graph that Keras named itself, by path."""
    found = {}
    for path in dict.fromkeys(parent(name) for name in graph.tensors):
        module = graph.modules.get(path)
        told = automatic(path, module.type_name if module is not None else "")
        if told is not None:
            found[path] = told
    return found


def without_numbers(name: str, numbered: Mapping[str, tuple[str, int]]) -> str:
    """A tensor's name without the numbers that Keras gave: ``conv2d_75/kernel:0`` → ``conv2d/kernel``."""
    path, word = parent(name), leaf(name).partition(":")[0]
    stems = []
    while path:
        told = numbered.get(path) or automatic(path)
        stems.append(told[0] if told else leaf(path))
        path = parent(path)
    return "/".join((*reversed(stems), word))
