"""Keras' H5 layout of 2015 to 2023, which Keras 3 still writes on request: a group for each layer, its weights named in attributes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import NotACheckpointError
from ckptaudit.graph.layouts import BY_NAME, LEGACY
from ckptaudit.graph.names import natural, parent
from ckptaudit.read.checkpoint import Branch, Checkpoint
from ckptaudit.read.hdf5 import Dataset, Group, Hdf5, Link
from ckptaudit.read.keras_config import (
    ModelConfig,
    dataflow,
    model_summary,
    parse_config,
    read_model_config,
    training_summary,
)
from ckptaudit.read.keras_names import legacy_names, variable_names
from ckptaudit.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ckptaudit.read.stored import StoredTensor

NAME = "keras-h5"

_HOLDER = "model_weights"
_OPTIMIZER = "optimizer_weights"
_TOP_LEVEL = "top_level_model_weights"


def holder_of(file: Hdf5) -> Group | None:
    """The group whose attributes list the layers, or None: then the file is not of this layout."""
    if isinstance(file.root.children.get(_HOLDER), Link):
        file.find(file.root, _HOLDER)  # tells why it is refused
    for name in ("", _HOLDER):
        group = file.find(file.root, name)
        if isinstance(group, Group) and (
            any(file.attribute(group, key) is not None for key in ("layer_names", "layer_names0", "nb_layers")) or name
        ):
            return group
    return None


def read_legacy(file: Hdf5, holder: Group, nbytes: int) -> Checkpoint:
    """Read weights, optimizer weights, config and versions."""
    tensors: dict[str, StoredTensor] = {}
    places: dict[str, str] = {}
    by_name: dict[str, str] = {}
    with_weights = (found for found in _layers(file, holder) if found[1])
    for number, (layer, names, weights) in enumerate(with_weights):
        for position, (name, weight) in enumerate(zip(names, weights, strict=True)):
            places.setdefault(name, f"{number}/{position}")
            by_name.setdefault(name, f"{layer}/{position}")
            if tensors.setdefault(name, weight.tensor) is not weight.tensor:
                file.remark(f"two weights are called {name!r}; the first is taken")
    metadata: dict[str, Any] = {}
    for key in ("keras_version", "backend"):
        told = file.attribute(file.root, key) or file.attribute(holder, key)
        if isinstance(told, (str, int, float)):
            metadata[key] = told
    texts = {"model": "model_config", "training": "training_config"}
    config = {
        key: parsed
        for key, attribute in texts.items()
        if isinstance(text := file.attribute(file.root, attribute), str)
        and (parsed := parse_config(text, attribute, file.remark)) is not None
    }
    model = read_model_config(config["model"]) if "model" in config else None
    whole = holder is not file.root
    told = MappingProxyType({LEGACY: MappingProxyType(places), BY_NAME: MappingProxyType(by_name)})
    main = described(Branch(_HOLDER if whole else "", "model", MappingProxyType(tensors), places=told), model, file)
    optimizer = file.find(file.root, _OPTIMIZER)
    branches = [main]
    if isinstance(optimizer, Group):
        slots = dict(_listed(file, optimizer, strict=False))
        if slots:
            branches.append(Branch(_OPTIMIZER, "optimizer", MappingProxyType({name: weight.tensor for name, weight in slots.items()})))
    _tell_unlisted(file, branches)
    if model is not None:
        metadata["model_config"] = model_summary(model)
    if "training" in config:
        metadata["training_config"] = training_summary(config["training"])
    return Checkpoint(
        file.path,
        NAME,
        "keras",
        main,
        "the model's weights; the optimizer's stand apart" if len(branches) > 1 else "the only branch",
        tuple(branches),
        MappingProxyType(metadata),
        (),
        nbytes,
        (*file.remarks, *(model.remarks if model is not None else ())),
        MappingProxyType(config),
    )


def described(branch: Branch, model: ModelConfig | None, file: Hdf5) -> Branch:
    """The branch with what the model's config says of its layers."""
    from ckptaudit.records import replace

    if model is None:
        return branch
    layers = {layer.path: layer for layer in model.every_layer()}
    modules = {**branch.modules, **{path: layer.class_name for path, layer in layers.items()}}
    attributes = {path: layer.attributes() for path, layer in layers.items()}
    owners: dict[str, tuple[str, ...]] = {}
    for path in dict.fromkeys(parent(name) for name in branch.tensors):
        # The outermost layer that is no model: what a wrapper wraps is a part of it.
        for outer in _prefixes(path):
            layer = layers.get(outer)
            if layer is not None and not layer.is_model:
                owners[outer] = (*owners.get(outer, ()), path)
                break
    feeds, why = dataflow(model, owners)
    if why:
        file.remark(f"its dataflow is not told: {why}", severity="note")
    return replace(branch, modules=MappingProxyType(modules), attributes=MappingProxyType(attributes), feeds=feeds)


def _prefixes(path: str) -> Iterator[str]:
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)
    yield path


def _layers(file: Hdf5, holder: Group) -> Iterator[tuple[str, list[str], list[Dataset]]]:
    """Name of each layer, and names and datasets of its weights, in the order of the attributes: never the alphabetical order of HDF5."""
    layers = file.strings(holder, "layer_names")
    count = file.attribute(holder, "nb_layers")
    if layers is None and isinstance(count, int):  # before Keras 1.0
        layers = [f"layer_{number}" for number in range(min(count, len(holder.children)))]
    if layers is None:
        file.remark(f"attribute 'layer_names' is missing from {holder.path!r}: layers are taken in the order of their names")
        layers = sorted((name for name in holder.groups() if name != _TOP_LEVEL), key=natural)
    if len(set(layers)) < len(layers):
        file.remark("attribute 'layer_names' lists a layer twice")
        layers = list(dict.fromkeys(layers))
    for layer in layers:
        group = file.find(holder, layer)
        if not isinstance(group, Group) or not layer.strip("/"):
            raise file.corrupt(f"whose layer_names list {layer!r}, which it does not hold")
        weights = list(_listed(file, group))
        if weights and all(name.startswith("param_") for name, _ in weights):
            words = variable_names("", [weight.tensor.shape for _, weight in weights])
            yield layer, [f"{layer}/{word}" for word in words], [weight for _, weight in weights]
        else:
            yield layer, legacy_names(layer, [name for name, _ in weights]), [weight for _, weight in weights]
    top = file.find(holder, _TOP_LEVEL) if _TOP_LEVEL not in layers else None
    if isinstance(top, Group):
        weights = list(_listed(file, top))
        yield _TOP_LEVEL, [name for name, _ in weights], [weight for _, weight in weights]


def _listed(file: Hdf5, group: Group, *, strict: bool = True) -> Iterator[tuple[str, Dataset]]:
    """Weights of one group in the order of ``weight_names``."""
    names = file.strings(group, "weight_names")
    if names is None:
        held = dict(_below(group))
        if held and strict and not all(name.startswith("param_") for name in held):
            file.remark(f"layer {group.path!r} does not list its weights: they are taken in the order of their names")
        yield from sorted(held.items(), key=lambda item: natural(item[0]))
        return
    for name in names:
        found = None if name.startswith("/") else file.find(group, name)
        if not isinstance(found, Dataset):
            what = "which is a group" if isinstance(found, Group) else "which it does not hold"
            raise file.corrupt(f"whose layer {group.path!r} lists the weight {name!r}, {what}")
        yield name, found


def _below(group: Group, seen: set[int] | None = None) -> Iterator[tuple[str, Dataset]]:
    """Every dataset below a group, by relative path, each object once."""
    seen = {id(group)} if seen is None else seen
    todo: list[tuple[str, Group]] = [("", group)]
    while todo:
        above, at = todo.pop()
        for name, child in at.children.items():
            path = f"{above}{name}"
            if id(child) in seen:
                continue
            seen.add(id(child))
            if isinstance(child, Group):
                todo.append((f"{path}/", child))
            elif isinstance(child, Dataset):
                yield path, child


def every_dataset(file: Hdf5) -> Mapping[str, Dataset]:
    """All datasets of a file in natural order of their paths."""
    return dict(sorted(_below(file.root), key=lambda item: natural(item[0])))


def _tell_unlisted(file: Hdf5, branches: Iterable[Branch]) -> None:
    listed = {id(tensor) for branch in branches for tensor in branch.tensors.values()}
    if len(listed) == file.datasets:
        return
    extra = [name for name, weight in _below(file.root) if id(weight.tensor) not in listed]
    if extra:
        file.remark(
            f"{plural(len(extra), 'dataset')} {'belongs' if len(extra) == 1 else 'belong'} to no layer that the file lists, the first "
            f"{min(extra, key=natural)!r}"
        )


def read_datasets(file: Hdf5, nbytes: int) -> Checkpoint:
    """Read a file that Keras did not write: every dataset by its path, in natural order."""
    tensors = {name: dataset.tensor for name, dataset in every_dataset(file).items()}
    if not tensors:
        raise NotACheckpointError(file.path, "an HDF5 file that holds no datasets")
    branch = Branch("", "model", MappingProxyType(tensors))
    reason = "every dataset of the file, which Keras did not write"
    return Checkpoint(file.path, "hdf5", "unknown", branch, reason, (branch,), MappingProxyType({}), (), nbytes, tuple(file.remarks))
