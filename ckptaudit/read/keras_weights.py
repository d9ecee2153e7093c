"""Keras 3's weights layout: a group for each object, and in its ``vars`` the variables by number."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.graph.layouts import NUMBERED
from ckptaudit.graph.names import natural
from ckptaudit.lazily import compiled_when_used
from ckptaudit.read.checkpoint import Branch, Checkpoint
from ckptaudit.read.hdf5 import Dataset, Group, Hdf5, Link
from ckptaudit.read.keras_config import LayerConfig, ModelConfig
from ckptaudit.read.keras_legacy import described
from ckptaudit.read.keras_names import class_of, snake_case, unique, variable_names
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from ckptaudit.read.stored import StoredTensor

NAME = "keras-weights"

_VARS = "vars"
#: Containers of a model's layers: today's name, and that of TensorFlow 2.12 and 2.13.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
_OPTIMIZERS = ("optimizer", "_optimizer")
#: Attributes of wrappers: what they wrap goes by its own name in Keras' own paths.
_WRAPPED = frozenset({"cell", "layer", "forward_layer", "backward_layer"})
#: Parts of Keras' own layers in the order in which they are made, which is not that of the alphabet.
_IN_LAYER = ("", "forward_layer", "backward_layer", "query_dense", "key_dense", "value_dense", "output_dense")
_MAX_LOOKED_AT = 1000
_COUNTER = compiled_when_used(r"_\d+\Z")


@dataclass(frozen=True, slots=True)
class _Found:
    """One object with variables: where it is, what it is called, of which class it is."""

    segments: tuple[str, ...]
    name: tuple[str, ...]
    class_name: str
    variables: Group
    config: LayerConfig | None

    @property
    def is_seed(self) -> bool:
        return self.class_name == "SeedGenerator" or "seed_generator" in self.segments[-1:]


def is_weights(file: Hdf5) -> bool:
    """Whether the root holds layers or variables in this layout."""
    root = file.root.groups()
    return any(isinstance(file.root.children.get(name), Group) for name in (*_LAYERS, _VARS)) or any(
        _VARS in child.children for child in root.values()
    )


def read_weights(
    file: Hdf5, nbytes: int, *, model: ModelConfig | None = None, metadata: dict[str, Any] | None = None, name: str = NAME
) -> Checkpoint:
    """Read the variables of every object; optimizer and random state stand apart."""
    weights: list[tuple[_Found, list[tuple[str, StoredTensor]]]] = []
    places: dict[str, str] = {}
    slots: dict[str, StoredTensor] = {}
    seeds: dict[str, StoredTensor] = {}
    for found in _objects(file, model):
        variables = list(_variables(file, found))
        if found.segments[:1] and found.segments[0] in _OPTIMIZERS:
            slots.update(("/".join((*found.segments[1:], _VARS, key)), tensor) for key, tensor in _numbered(file, found))
        elif found.is_seed:
            seeds.update(("/".join((*found.name, word)), tensor) for word, tensor in variables)
        else:
            weights.append((found, variables))
    paths = unique(("/".join(found.name) for found, _ in weights), ["/".join(found.segments) for found, _ in weights])
    tensors: dict[str, StoredTensor] = {}
    modules: dict[str, str] = {}
    for path, (found, variables) in zip(paths, weights, strict=True):
        if found.class_name:
            modules[path] = found.class_name
        for (word, tensor), (key, _) in zip(variables, _numbered(file, found), strict=True):
            full = f"{path}/{word}" if path else word
            tensors[full] = tensor
            places[full] = _as_today("/".join((*found.segments, _VARS, key)))
    several = bool(slots or seeds)
    main = Branch("model" if several else "", "model", MappingProxyType(tensors), MappingProxyType(modules))
    main = replace(main, places=MappingProxyType({NUMBERED: MappingProxyType(places)}))
    main = described(main, model, file)
    branches = [main]
    if slots:
        branches.append(Branch("optimizer", "optimizer", MappingProxyType(slots)))
    if seeds:
        branches.append(Branch("seed_generators", "other", MappingProxyType(seeds)))
    apart = [words for words, there in (("the optimizer's variables", slots), ("random states", seeds)) if there]
    reason = f"the model's weights; {' and '.join(apart)} stand apart" if apart else "the only branch"
    remarks = (*file.remarks, *(model.remarks if model is not None else ()))
    config = MappingProxyType({"model": model.raw} if model is not None else {})
    return Checkpoint(
        file.path, name, "keras", main, reason, tuple(branches), MappingProxyType(metadata or {}), (), nbytes, remarks, config
    )


def _as_today(place: str) -> str:
    """The place at which Keras looks for it: it knows the containers of TensorFlow 2.12 and 2.13."""
    first, slash, rest = place.partition("/")
    return f"{_LAYERS[0]}/{rest}".replace(f"/{_LAYERS[1]}/", f"/{_LAYERS[0]}/") if slash and first == _LAYERS[1] else place


def _objects(file: Hdf5, model: ModelConfig | None) -> Iterator[_Found]:
    """Every object with variables, outer before inner, siblings in definition order."""
    root = None if model is None else LayerConfig("", "", model.class_name, {"layers": []}, model.raw, model.layers)
    todo: list[tuple[Group, tuple[str, ...], tuple[str, ...], str, LayerConfig | None]] = [(file.root, (), (), "", root)]
    seen = {id(file.root)}
    while todo:
        group, segments, name, class_name, config = todo.pop()
        variables = file.find(group, _VARS) if _VARS in group.children else None
        if isinstance(variables, Group):
            yield _Found(segments, name, class_name, variables, config)
            seen.add(id(variables))
        below = []
        for key, child in _children(group):
            if id(child) in seen:
                continue
            seen.add(id(child))
            # A container of layers is no object; "layers\\conv2d" is what some versions wrote on Windows.
            container, _, inner = key.replace("\\", "/").partition("/")
            if container in _LAYERS and not inner and _VARS not in child.children:
                elements = []
                for element, sub, settings in _elements(child, config):
                    if id(sub) not in seen:
                        seen.add(id(sub))
                        told = _told(file, sub) or (settings.name if settings is not None else "") or element
                        kind = settings.class_name if settings is not None else class_of(element)
                        elements.append((sub, (*segments, key, element), (*name, *_parts(told)), kind, settings))
                below.extend(elements)
                continue
            segment = inner if container in _LAYERS and inner else key
            told, settings = _told(file, child), _child_config(config, segment)
            shown = (told or segment) if container in _LAYERS and inner else _shown(segment, told)
            kind = settings.class_name if settings is not None else class_of(told) or class_of(segment) or class_of(f"{segment}_cell")
            if not kind and segment == "cell" and class_name:
                kind = f"{class_name}Cell"
            below.append((child, (*segments, key), (*name, *_parts(shown)), kind, settings))
        todo.extend(reversed(below))


def _children(group: Group) -> list[tuple[str, Group]]:
    """Subgroups other than ``vars``: layers first, private attributes last, as Keras visits them."""
    names = [(name, child) for name, child in group.groups().items() if name != _VARS]
    ranks = {name: rank for rank, name in enumerate(_IN_LAYER)}
    return sorted(
        names,
        key=lambda item: (not item[0].startswith(_LAYERS), ranks.get(item[0].lstrip("_"), 0), item[0].startswith("_"), natural(item[0])),
    )


def _elements(container: Group, config: LayerConfig | None) -> list[tuple[str, Group, LayerConfig | None]]:
    """A model's layers in definition order: the config's, else the order of writing where the file shows it, else that of numbers."""
    groups = container.groups()
    if config is not None:
        counts: dict[str, int] = {}
        known: dict[str, LayerConfig] = {}
        for layer in config.children:
            word = snake_case(layer.class_name)
            known[f"{word}_{counts[word]}" if word in counts else word] = layer
            counts[word] = counts.get(word, 0) + 1
        if groups.keys() <= known.keys():
            return [(name, groups[name], layer) for name, layer in known.items() if name in groups]
    names = sorted(groups, key=natural)
    # Objects lie in the file in the order in which they were made, but for a few that fill room that was freed; these lie further ahead,
    # so that the last object of a layer tells its place. Keras numbers the layers of each class in definition order: the numbers tell
    # whether addresses can be trusted. (Measured: the order of all layers of six models of keras.applications, without one exception.)
    written = sorted(groups, key=lambda name: _last_address(groups[name]))
    by_class: dict[str, list[int]] = {}
    for name in written:
        number = _COUNTER.search(name)
        by_class.setdefault(_COUNTER.sub("", name), []).append(int(number[0][1:]) if number else 0)
    trusted = all(numbers == sorted(numbers) for numbers in by_class.values())
    return [(name, groups[name], None) for name in (written if trusted else names)]


def _last_address(group: Group) -> int:
    last, todo, left = group.address, [group], _MAX_LOOKED_AT
    while todo and left:
        for child in todo.pop().children.values():
            if isinstance(child, Link) or not left:
                continue
            left -= 1
            last = max(last, child.address)
            if isinstance(child, Group):
                todo.append(child)
    return last


def _child_config(config: LayerConfig | None, segment: str) -> LayerConfig | None:
    if config is None or config.is_model:
        return None
    wrapped = config.settings.get(segment)
    return next((child for child in config.children if isinstance(wrapped, dict) and child.raw is wrapped), None)


def _told(file: Hdf5, group: Group) -> str:
    """The object's own name, which Keras 3.6 and later note down."""
    variables = group.children.get(_VARS)
    name = file.attribute(variables, "name") if isinstance(variables, Group) else None
    return name if isinstance(name, str) else ""


def _shown(segment: str, told: str) -> str:
    """The name of an attribute's object: its own, unless that was given automatically and would change with the next build."""
    if not told or segment in _WRAPPED:
        return told or segment
    return segment if _COUNTER.search(told) or class_of(told) else told


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part) or (name,)


def _numbered(file: Hdf5, found: _Found) -> list[tuple[str, StoredTensor]]:
    """Variables of one object in the order of their numbers."""
    held = []
    for key in sorted(found.variables.children, key=natural):
        child = file.find(found.variables, key)
        if isinstance(child, Dataset):
            held.append((key, child.tensor))
    return held


def _variables(file: Hdf5, found: _Found) -> Iterator[tuple[str, StoredTensor]]:
    held = _numbered(file, found)
    keys = [key for key, _ in held]
    if keys == [str(position) for position in range(len(keys))]:
        settings = found.config.settings if found.config is not None else None
        words = variable_names(found.class_name, [tensor.shape for _, tensor in held], settings)
        yield from zip(words, (tensor for _, tensor in held), strict=True)
        return
    if any(key.isdecimal() for key in keys):
        file.remark(f"the variables of {'/'.join(found.segments)!r} are not numbered from 0 on: {', '.join(keys[:5])}")
    yield from held
