"""The lock as a file: TOML, one line per layer or tensor, repeats folded, entries by name, so that a diff of two reads as what changed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckptaudit.errors import LockError
from ckptaudit.graph import Module
from ckptaudit.graph.layouts import BY_NAME, LEGACY, NUMBERED
from ckptaudit.lazily import compiled_when_used
from ckptaudit.lock.folding import Row, escape, fold, unescape, unfold
from ckptaudit.lock.locked import TERMS, Locked, Tensors, batch_norm_layers, stored
from ckptaudit.lock.tables import TableReader
from ckptaudit.read import Branch, Checkpoint, RefusedGlobal
from ckptaudit.read.recorded import BatchNormStatistics, Recorded
from ckptaudit.records import replace

VERSION = 1
_HEAD = """\
# The checkpoints that this project promises to restore: names, shapes and facts; no weights.
# Written by `ckptaudit lock`; `ckptaudit check` holds the models against it. Do not edit.
"""
#: A lock of more bytes than this is not read.
_MAX_BYTES = 256 << 20
_TENSOR = compiled_when_used(r"(\S+)\[((?:\d{1,18}(?:,\d{1,18})*)?)\]", re.ASCII)
_MODULE = compiled_when_used(r"(\S*) (\{.*\})")
_KEYS = (
    *("name", *TERMS, "digests", "facts", "format", "framework", "branch-audited", "role", "branch-reason", "bytes", "metadata"),
    *("remarks", "refused-globals", "tied", "tensors", "branches", "batch-norm", "non-finite", "differing", "modules", "places", "arrays"),
)


def lock_text(entries: Iterable[Locked]) -> str:
    """The text of a lock.

    Raises
    ------
    LockError
        A text cannot be written down (half a surrogate pair).
    """
    text = f"{_HEAD}version = {VERSION}\n" + "".join(_entry_text(entry) for entry in sorted(entries, key=lambda entry: entry.name))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LockError(f"{text[error.start - 40 : error.end]!r} cannot be written into a lock: it holds half a surrogate pair") from None
    return text


def load_lock(path: Path) -> dict[str, Locked]:
    """Read a lock: its entries by the names of their contracts.

    Raises
    ------
    LockError
        There is none, or it is not exactly what :func:`lock_text` writes; the message says where.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LockError(f"{path.name} is larger than {_MAX_BYTES >> 20} MiB, and is not read")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LockError(f"there is no {path.name} in {path.parent}; `ckptaudit lock` writes it") from None
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise LockError(f"{path.name} is no TOML: {' '.join(str(error).split())}") from error
    if (version := document.get("version")) != VERSION:
        raise LockError(f"{path.name} has version {version!r}; this ckptaudit reads version {VERSION}: run `ckptaudit lock`")
    reader = TableReader()
    document = dict(reader.table(document, "the file", ("version", "contracts")))
    entries: dict[str, Locked] = {}
    for index, item in enumerate(reader.get(document, "the file", "contracts", list, [])):
        entry = _entry(reader, item, f"contracts[{index}]")
        if entry is not None and entry.name in entries:
            reader.wrong.append(f"contracts[{index}].name: {entry.name!r} is there twice")
        if entry is not None:
            entries[entry.name] = entry
    if reader.wrong:
        raise LockError(f"{path.name}: {'; '.join(reader.wrong[:5])}")
    return entries


# Writing ------------------------------------------------------------------------------------------------------------------


def _entry_text(entry: Locked) -> str:
    checkpoint, recorded = entry.checkpoint, entry.checkpoint.recorded or Recorded()
    graph = checkpoint.graph
    fields: dict[str, Any] = {
        "name": entry.name,
        **entry.terms,
        "digests": dict(entry.digests),
        "facts": dict(entry.facts),
        "format": checkpoint.format,
        "framework": checkpoint.framework,
        "branch-audited": checkpoint.branch.name,
        "role": checkpoint.branch.role if checkpoint.branch.role != "model" else "",
        "branch-reason": checkpoint.branch_reason if len(checkpoint.branches) > 1 else "",
        "bytes": checkpoint.nbytes,
        "metadata": json.dumps(checkpoint.metadata, sort_keys=True) if checkpoint.metadata else "",
        "remarks": list(checkpoint.remarks),
        "refused-globals": [_global(refused) for refused in checkpoint.refused_globals],
        "tied": [_names(group) for group in graph.tied],
        "batch-norm": _batch_norm(checkpoint, recorded),
        "arrays": _folded(name for name, tensor in checkpoint.branch.tensors.items() if tensor.is_array),
        "non-finite": [[escape(name), share] for name, share in recorded.non_finite.items()],
        "differing": [_names(group) for group in recorded.differing],
    }
    lines = [f"{key} = {_toml(value)}\n" for key, value in fields.items() if value not in ("", [], {})]
    lines.append(f"tensors = {_block(_tensor_rows(checkpoint.branch))}")
    for layout, places in checkpoint.branch.places.items():
        lines.append(f"places.{layout} = {_block(_place_rows(places[name] for name in checkpoint.branch.tensors))}")
    lines.append(f"modules = {_block((path, _module_text(module)) for path, module in recorded.modules.items())}")
    for branch in checkpoint.branches:
        if branch.name != checkpoint.branch.name:
            lines.append(f"[[contracts.branches]]\nname = {_toml(branch.name)}\nrole = {_toml(branch.role)}\n")
            lines.append(f"tensors = {_block(_tensor_rows(branch))}" if branch.tensors else "")
    return "\n[[contracts]]\n" + "".join(lines)


def _tensor_rows(branch: Branch) -> Iterable[Row]:
    return ((name, f"{escape(t.dtype)}[{','.join(map(str, t.shape))}]") for name, t in branch.tensors.items())


def _place_rows(places: Iterable[str]) -> Iterable[Row]:
    """What several places in a row have in common, and how each goes on."""
    for holder, group in groupby((place.rpartition("/") for place in places), lambda parts: parts[0]):
        yield holder, ",".join(escape(position) for _, _, position in group)


def _module_text(module: Module) -> str:
    # An apostrophe could end the block, and TOML has no place for DEL.
    settings = json.dumps(dict(module.attributes), sort_keys=True, default=repr)
    return f"{escape(module.type_name)} {settings}".replace("'", "\\u0027").replace("\x7f", "\\u007f")


def _block(rows: Iterable[Row]) -> str:
    return "'''\n" + "".join(f"{name} {text}\n" for name, text in fold(rows)) + "'''\n"


def _batch_norm(checkpoint: Checkpoint, recorded: Recorded) -> dict[str, Any]:
    read = {layer.path: layer for layer in recorded.batch_norm}
    layers = [path for path, _ in batch_norm_layers(checkpoint)]
    kinds = {
        "untrained": [path for path in layers if path in read and read[path].initial],
        "not-finite": [path for path in layers if path in read and not read[path].finite],
        "negative": [path for path in layers if path in read and read[path].negative],
        "unread": [path for path in layers if path not in read],
    }
    return {"layers": len(layers), **{kind: _folded(paths) for kind, paths in kinds.items() if paths}}


def _folded(names: Iterable[str]) -> list[str]:
    return [pattern for pattern, _ in fold((name, "") for name in names)]


def _global(refused: RefusedGlobal) -> dict[str, Any]:
    return {"name": refused.name, "position": refused.position, "called": refused.called, "pickle": refused.pickle}


def _names(names: Iterable[str]) -> list[str]:
    return [escape(name) for name in names]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


# Reading ------------------------------------------------------------------------------------------------------------------


def _entry(reader: TableReader, item: Any, where: str) -> Locked | None:
    before = len(reader.wrong)
    table = reader.table(item, where, _KEYS)
    try:
        entry = _checked_entry(reader, table, where)
    except _MalformedError as error:
        reader.wrong.append(f"{where}.{error}")
        return None
    return entry if len(reader.wrong) == before else None


class _MalformedError(ValueError):
    """The text begins with the key that is wrong."""


def _checked_entry(reader: TableReader, table: Mapping[str, Any], where: str) -> Locked:
    def get(key: str, kind: type, default: Any) -> Any:
        return reader.get(table, where, key, kind, default)

    name = reader.get(table, where, "name", str)
    terms = {key: table[key] for key in TERMS if key in table}
    path = Path(str(terms.get("checkpoint", "")))
    tensors = _tensors(reader.get(table, where, "tensors", str), "tensors")
    tied = tuple(_group(group, "tied", tensors) for group in get("tied", list, []))
    if (arrays := _unfolded(get("arrays", list, []), "arrays")) - tensors.keys():
        raise _MalformedError("arrays: names something other than tensors")
    places = {layout: _places(block, f"places.{layout}", tensors) for layout, block in get("places", dict, {}).items()}
    branch = Branch(
        get("branch-audited", str, ""),
        get("role", str, "model"),
        MappingProxyType(stored(tensors, tied, path, arrays)),
        places=MappingProxyType(places),
    )
    bare = Checkpoint(
        path=path,
        format=reader.get(table, where, "format", str),
        framework=reader.get(table, where, "framework", str),
        branch=branch,
        branch_reason=get("branch-reason", str, ""),
        branches=(branch, *(_branch(reader, other, f"{where}.branches[{i}]", path) for i, other in enumerate(get("branches", list, [])))),
        metadata=_json(get("metadata", str, "{}"), "metadata"),
        refused_globals=tuple(_refused(one) for one in get("refused-globals", list, [])),
        nbytes=get("bytes", int, 0),
        remarks=tuple(map(str, get("remarks", list, []))),
    )
    recorded = Recorded(
        _statistics(bare, get("batch-norm", dict, {})),
        MappingProxyType(dict(map(_share, get("non-finite", list, [])))),
        tuple(_group(group, "differing", tensors) for group in get("differing", list, [])),
        MappingProxyType(dict(_module(row) for row in _rows(get("modules", str, ""), "modules"))),
    )
    return Locked(name, terms, replace(bare, recorded=recorded), get("digests", dict, {}), get("facts", dict, {}))


def _rows(block: str, key: str) -> list[Row]:
    rows = []
    for number, line in enumerate(block.removesuffix("\n").split("\n") if block else (), 1):
        name, space, text = line.partition(" ")
        if not space:
            raise _MalformedError(f"{key}, line {number}: {line[:80]!r} is not a name and what it has")
        rows.append((name, text))
    try:
        return unfold(rows)
    except ValueError as error:
        raise _MalformedError(f"{key}: {error}") from error


def _tensors(block: str, key: str) -> Tensors:
    tensors = {}
    for name, text in _rows(block, key):
        found = _TENSOR.fullmatch(text)
        if found is None:
            raise _MalformedError(f"{key}: {name!r} has {text[:80]!r}, not a dtype and a shape")
        if name in tensors:
            raise _MalformedError(f"{key}: {name!r} is there twice")
        tensors[name] = tuple(map(int, found[2].split(","))) if found[2] else (), unescape(found[1])
    return tensors


def _places(block: Any, key: str, tensors: Tensors) -> Mapping[str, str]:
    if key.removeprefix("places.") not in (LEGACY, NUMBERED, BY_NAME) or not isinstance(block, str):
        raise _MalformedError(f"{key}: is no layout of Keras' files")
    rows = _rows(block, key)
    try:
        places = [f"{holder}/{unescape(position)}" for holder, positions in rows for position in positions.split(",")]
    except ValueError as error:
        raise _MalformedError(f"{key}: {error}") from error
    if len(places) != len(tensors):
        raise _MalformedError(f"{key}: holds {len(places):,} places for {len(tensors):,} tensors")
    return MappingProxyType(dict(zip(tensors, places, strict=True)))


def _module(row: Row) -> tuple[str, Module]:
    path, text = row
    found = _MODULE.fullmatch(text)
    if found is None:
        raise _MalformedError(f"modules: {path!r} has {text[:80]!r}, not a type and its settings")
    return path, Module(unescape(found[1]), None, MappingProxyType(_json(found[2], f"modules, {path!r}")))


def _json(text: str, key: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _MalformedError(f"{key}: is no JSON object")
    return value


def _branch(reader: TableReader, item: Any, where: str, path: Path) -> Branch:
    table = reader.table(item, where, ("name", "role", "tensors"))
    tensors = _tensors(reader.get(table, where, "tensors", str, ""), "branches, tensors")
    return Branch(table.get("name", ""), reader.get(table, where, "role", str), MappingProxyType(stored(tensors, (), path)))


def _group(item: Any, key: str, known: Tensors) -> tuple[str, ...]:
    names = tuple(unescape(name) for name in item) if isinstance(item, list) and all(isinstance(name, str) for name in item) else ()
    if len(names) < 2 or not all(name in known for name in names):
        raise _MalformedError(f"{key}: {item!r} is no group of names among the tensors")
    return names


def _unfolded(patterns: Iterable[Any], key: str) -> set[str]:
    return {name for name, _ in _rows("".join(f"{pattern} \n" for pattern in patterns), key)}


def _share(item: Any) -> tuple[str, float]:
    match item:
        case [str(name), float(share)]:
            return unescape(name), share
    raise _MalformedError(f"non-finite: {item!r} is not a name and a share")


def _refused(item: Any) -> RefusedGlobal:
    match item:
        case {"name": str(name), "position": int(position), "called": bool(called), "pickle": str(pickle)}:
            return RefusedGlobal(name, position, called, pickle)
    raise _MalformedError(f"refused-globals: {item!r} is not name, position, called and pickle")


def _statistics(checkpoint: Checkpoint, table: Mapping[str, Any]) -> tuple[BatchNormStatistics, ...]:
    layers = batch_norm_layers(checkpoint)
    if table.get("layers", 0) != len(layers):
        raise _MalformedError(f"batch-norm: counts {table.get('layers', 0)!r} layers, and the tensors have {len(layers)}")
    marked: dict[str, set[str]] = {}
    for kind, patterns in table.items():
        if kind != "layers":
            marked[kind] = _unfolded(patterns, "batch-norm")
    known = {path for path, _ in layers}
    if marked.keys() - {"untrained", "not-finite", "negative", "unread"} or any(paths - known for paths in marked.values()):
        raise _MalformedError("batch-norm: names something other than layers that are untrained, not-finite, negative or unread")
    untrained, not_finite, negative, unread = (marked.get(kind, set()) for kind in ("untrained", "not-finite", "negative", "unread"))
    return tuple(
        BatchNormStatistics(path, names, path not in not_finite, path in negative, path in untrained)
        for path, names in layers
        if path not in unread
    )
