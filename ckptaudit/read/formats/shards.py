"""An index of shards: JSON that says which of several files, beside it, holds which tensor."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.read.checkpoint import Branch, Checkpoint, RefusedGlobal, Remark
from ckptaudit.read.links import leaves
from ckptaudit.read.source import Source, opened
from ckptaudit.read.strict_json import parse, shallow
from ckptaudit.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.stored import Storage, StoredTensor


_MAX_SHARDS = 10_000
_MAX_FILE_NAME = 255  # bytes, on every file system in use
_THIS = __name__


def recognise(source: Source) -> bool:
    """Whether it is JSON with a ``weight_map``."""
    return source.head.lstrip()[:1] == b"{" and source.data.find(b'"weight_map"', 0, source.max_header) >= 0


def read(source: Source) -> Checkpoint:
    """Read the index, then the header of each shard once."""
    path = source.path
    index = _index(source)
    weight_map = index["weight_map"]
    remarks: list[str] = []
    shards = {name: _located(path, name, remarks) for name in dict.fromkeys(weight_map.values())}
    missing = [name for name, shard in shards.items() if not shard.exists()]
    if missing:
        lost = sum(shard in missing for shard in weight_map.values())
        raise CorruptCheckpointError(
            path,
            f"{len(missing)} of {len(shards)} shards are missing, and {lost:,} of {len(weight_map):,} tensors with them: "
            + ", ".join(missing[:5]),
        )
    held: dict[str, Checkpoint] = {}
    for name, shard in shards.items():
        held[name] = _read_shard(shard, source.max_header)
    tensors: dict[str, StoredTensor] = {}
    storages: dict[tuple[str, str], Storage] = {}
    for tensor, name in weight_map.items():
        found = held[name].branch.tensors.get(tensor)
        if found is None:
            raise CorruptCheckpointError(path, f"the index promises tensor {tensor!r} in {name}, which does not hold it")
        # Storage keys are unique within a file only.
        key = (name, found.storage.key)
        if key not in storages:
            storages[key] = replace(found.storage, key=f"{name}:{found.storage.key}")
        tensors[tensor] = replace(found, storage=storages[key])
    remarks += _disagreements(weight_map, held)
    remarks += [Remark(remark).within(name) for name, checkpoint in held.items() for remark in checkpoint.remarks]
    branch = Branch("", "model", MappingProxyType(tensors))
    kind = "safetensors-index" if all(checkpoint.format == "safetensors" for checkpoint in held.values()) else "torch-index"
    about = index.get("metadata")
    metadata: dict[str, Any] = {
        **next((dict(c.metadata) for c in held.values()), {}),
        **(shallow(about) if isinstance(about, dict) else {}),
        "shards": len(shards),
    }
    refused = tuple(_refused(held))
    nbytes = source.size + sum(checkpoint.nbytes for checkpoint in held.values())
    return Checkpoint(
        path,
        kind,
        "torch",
        branch,
        f"an index of {len(shards)} shards",
        (branch,),
        MappingProxyType(metadata),
        refused,
        nbytes,
        tuple(remarks),
    )


def _index(source: Source) -> dict[str, Any]:
    if source.size > source.max_header:
        raise CorruptCheckpointError(source.path, f"an index of {source.size:,} bytes; more than {source.max_header:,} are not read")
    index = parse(source.data[:], lambda words: CorruptCheckpointError(source.path, f"an index of shards that {words}"))
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
        raise CorruptCheckpointError(source.path, "an index of shards whose weight_map does not map names of tensors to names of files")
    if len(set(weight_map.values())) > _MAX_SHARDS:
        raise CorruptCheckpointError(source.path, f"an index of more than {_MAX_SHARDS:,} shards")
    return index


def _located(index: Path, name: str, remarks: list[str]) -> Path:
    """The shard's path, which must lie in the index's own folder by its name."""
    # A plain file name, in the eyes of every system: no folder, no drive, no URL, and spelt one way only.
    if Path(name).name != name or name in (".", "..") or name != name.strip() or set(name) & set("\\:\0"):
        raise CorruptCheckpointError(index, f"an index whose shard {name!r} is no file name within its own folder")
    try:
        too_long = len(os.fsencode(name)) > _MAX_FILE_NAME
    except UnicodeEncodeError:
        too_long = True  # half a surrogate pair, which no file name has
    if too_long:
        raise CorruptCheckpointError(index, f"an index whose shard {name[:80]!r}… is no name that a file can have")
    shard = index.parent / name
    if leaves(shard, index.parent):
        # Links are how people share large files, so they are followed; whoever planted one is told of.
        remarks.append(Remark(f"shard {name!r} is a symbolic link that leaves the folder", "outside-file"))
    return shard


def _read_shard(path: Path, max_header: int) -> Checkpoint:
    from ckptaudit.read.opening import formats

    with opened(path, max_header) as source:
        # Anything but another index, which could name this one.
        for kind in formats():
            if isinstance(kind, ModuleType) and kind.__name__ != _THIS and kind.recognise(source):
                checkpoint: Checkpoint = kind.read(source)
                return checkpoint
    raise CheckpointError(path, "a shard of no known format")


def _disagreements(weight_map: dict[str, str], held: dict[str, Checkpoint]) -> Iterator[str]:
    for name, checkpoint in held.items():
        extra = [tensor for tensor in checkpoint.branch.tensors if weight_map.get(tensor) != name]
        if extra:
            yield f"shard {name!r} holds {len(extra):,} tensors that the index does not place there, the first {extra[0]!r}"


def _refused(held: dict[str, Checkpoint]) -> Iterator[RefusedGlobal]:
    for name, checkpoint in held.items():
        for refused in checkpoint.refused_globals:
            yield replace(refused, pickle=f"{name}: {refused.pickle}")
