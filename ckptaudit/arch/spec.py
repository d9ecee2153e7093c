"""Models in files: a saved spec to audit against without any framework, or another checkpoint taken as the model."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.errors import ArchitectureError
from ckptaudit.files import write_file
from ckptaudit.graph import LayerGraph, Module, Origin, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckptaudit.read.checkpoint import Checkpoint

SCHEMA = "ckptaudit.spec/1"


def model_of_checkpoint(checkpoint: Checkpoint) -> Model:
    """Take a checkpoint for the model: its chosen branch is what the other one must fit."""
    return Model(arch=str(checkpoint.path), source="checkpoint", graph=checkpoint.graph, provenance="file", checkpoint=checkpoint)


def save_spec(model: Model, path: Path | str, *, force: bool = False) -> None:
    """Write what is known of a model, such that :func:`load_spec` gives it back; its live module and siblings are not saved.

    Raises
    ------
    OutputError
        The file exists and ``force`` was not given, or it cannot be written.
    """
    write_file(path, spec_text(model), force=force)


def spec_text(model: Model) -> str:
    """The text of a saved spec: JSON, schema ``ckptaudit.spec/1``."""
    # One tensor and one module a line, so that a diff of two specs reads as the change of the model.
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_rows(value)}" for key, value in to_document(model).items()) + "\n}\n"


def to_document(model: Model) -> dict[str, Any]:
    """What a saved spec holds, as JSON values.

    An argument may be anything that a factory takes; what JSON cannot hold is left to the writer, which keeps it as it would be printed.
    """
    graph = model.graph
    return {
        "schema": SCHEMA,
        "arch": model.arch,
        "source": model.source,
        "library_version": model.library_version,
        "arguments": dict(model.arguments),
        "call": model.call,
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "framework": graph.framework,
        "tensors": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "buffer": t.buffer} for t in graph],
        "modules": {
            name: {
                "type": module.type_name,
                "origin": None if module.origin is None else {"path": module.origin.path, "line": module.origin.line},
                "attributes": dict(module.attributes),
            }
            for name, module in graph.modules.items()
        },
        "feeds": [list(pair) for pair in graph.feeds],
        "tied": [list(group) for group in graph.tied],
        **({"places": {layout: dict(places) for layout, places in graph.places.items()}} if graph.places else {}),
    }


def _rows(value: object) -> str:
    match value:
        case list() if value:
            return "[\n " + ",\n ".join(json.dumps(row, default=repr) for row in value) + "\n]"
        case dict() if value:
            return "{\n " + ",\n ".join(f"{json.dumps(key)}: {json.dumps(row, default=repr)}" for key, row in value.items()) + "\n}"
    return json.dumps(value, default=repr)


def load_spec(path: Path | str) -> Model:
    """Read a model that :func:`save_spec` wrote.

    Raises
    ------
    ArchitectureError
        The file cannot be read, or is not exactly a spec of this version; the message names the first thing that is wrong.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ArchitectureError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f"{path} is no saved spec: it is not JSON ({' '.join(str(error).split())})") from error
    try:
        return from_document(document)
    except MalformedSpecError as error:
        raise ArchitectureError(f"{path} is no usable spec: {error}") from error


class MalformedSpecError(ValueError):
    """The document breaks the schema; the text says where."""


def from_document(document: Any) -> Model:
    """The model that a document describes; strict: the first thing that is wrong raises :class:`MalformedSpecError`."""
    fields = _object(document, "the file")
    schema = fields.get("schema")
    if schema != SCHEMA:
        raise MalformedSpecError(f"schema is {schema!r}, not {SCHEMA!r}")
    tensors = [_tensor(item, f"tensors[{index}]") for index, item in enumerate(_get(fields, "tensors", list))]
    names = {tensor.name for tensor in tensors}
    if len(names) < len(tensors):
        seen: set[str] = set()
        twice = next(t.name for t in tensors if t.name in seen or seen.add(t.name))  # type: ignore[func-returns-value]
        raise MalformedSpecError(f"tensors names {twice!r} twice")
    feeds = [_strings(item, f"feeds[{index}]") for index, item in enumerate(_get(fields, "feeds", list))]
    if any(len(pair) != 2 for pair in feeds):
        raise MalformedSpecError("feeds holds something other than pairs")
    tied = [_strings(item, f"tied[{index}]") for index, item in enumerate(_get(fields, "tied", list))]
    for name in (name for group in tied for name in group if name not in names):
        raise MalformedSpecError(f"tied names {name!r}, which is not among the tensors")
    modules = {name: _module(item, f"modules[{name!r}]") for name, item in _get(fields, "modules", dict).items()}
    graph = LayerGraph.from_tensors(
        tensors,
        _get(fields, "framework", str),
        modules=MappingProxyType(modules),
        feeds=tuple((producer, consumer) for producer, consumer in feeds),
        tied=tuple(tied),
        places=MappingProxyType(_places(_get(fields, "places", dict) if "places" in fields else {})),
    )
    return Model(
        arch=_get(fields, "arch", str),
        source=_get(fields, "source", str),
        graph=graph,
        provenance="file",
        library_version=_get(fields, "library_version", str | None),
        arguments=MappingProxyType(_get(fields, "arguments", dict)),
        call=_get(fields, "call", str | None),
        preprocessing=_preprocessing(_get(fields, "preprocessing", dict | None)),
    )


def _preprocessing(fields: Mapping[str, Any] | None) -> Preprocessing | None:
    try:
        return None if fields is None else Preprocessing.from_json(fields)
    except ValueError as error:
        raise MalformedSpecError(f"preprocessing.{error}") from None


def _tensor(item: Any, where: str) -> TensorSpec:
    fields = _object(item, where)
    shape = _get(fields, "shape", list, where)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise MalformedSpecError(f"{where}.shape is {shape!r}, not a list of sizes")
    return TensorSpec(
        _get(fields, "name", str, where), tuple(shape), _get(fields, "dtype", str, where), _get(fields, "buffer", bool, where)
    )


def _module(item: Any, where: str) -> Module:
    fields = _object(item, where)
    origin = _get(fields, "origin", dict | None, where)
    attributes = {name: _tuples(value) for name, value in _get(fields, "attributes", dict, where).items()}
    return Module(
        _get(fields, "type", str, where),
        None if origin is None else Origin(_get(origin, "path", str, f"{where}.origin"), _get(origin, "line", int, f"{where}.origin")),
        MappingProxyType(attributes),
    )


def _places(found: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    for layout, places in found.items():
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise MalformedSpecError(f"places[{layout!r}] does not give a place for each name")
    return {layout: MappingProxyType(places) for layout, places in found.items()}


def _object(item: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise MalformedSpecError(f"{where} is {_kind(item)}, not an object")
    return item


def _get(fields: Mapping[str, Any], name: str, kind: Any, where: str = "") -> Any:
    place = f"{where}.{name}" if where else name
    if name not in fields:
        raise MalformedSpecError(f"{place} is missing")
    value = fields[name]
    # bool is an int to Python, but not to anyone who writes a line number.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MalformedSpecError(f"{place} is {_kind(value)}, not {getattr(kind, '__name__', kind)}")
    return value


def _strings(item: Any, where: str) -> tuple[str, ...]:
    if not isinstance(item, list) or not all(isinstance(word, str) for word in item):
        raise MalformedSpecError(f"{where} is not a list of names")
    return tuple(item)


def _tuples(value: Any) -> Any:
    """JSON knows lists only; attributes such as a stride were tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
