"""``.keras``: a zip of ``config.json``, ``metadata.json`` and ``model.weights.h5``, the latter almost always stored as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError, NotACheckpointError
from ckptaudit.read.formats.hdf5 import is_hdf5
from ckptaudit.records import replace

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source

NAME = "keras"

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_EXPECTED = (_CONFIG, _METADATA, _WEIGHTS)


def recognise(source: Source) -> bool:
    """Whether it is a zip with a config and weights under Keras' names."""
    return source.is_zip and _CONFIG in source.zip.members and (_METADATA in source.zip.members or _WEIGHTS in source.zip.members)


def read(source: Source) -> Checkpoint:
    """Read config and metadata, then the weights in place."""
    from ckptaudit.read.hdf5 import Locate, open_hdf5
    from ckptaudit.read.keras_config import model_summary, read_model_config, reduced, training_summary
    from ckptaudit.read.keras_weights import read_weights

    path, archive = source.path, source.zip
    remarks: list[str] = list(archive.remarks)
    config = _json(source, _CONFIG, remarks)
    about = _json(source, _METADATA, remarks)
    member = archive.members.get(_WEIGHTS)
    if member is None:
        others = [name for name in archive.members if name.startswith("model.weights")]
        what = f"its weights are in {others[0]!r}, a layout that is not read" if others else "it holds no model.weights.h5"
        raise NotACheckpointError(path, f"a .keras archive: {what}")
    start = archive.payload(member)
    if member.stored:
        where = Locate(path, start, member.size)
        if not is_hdf5(source.data, member.size, start):
            raise CorruptCheckpointError(path, "a .keras archive whose model.weights.h5 is no HDF5 file")
    else:
        if member.size > source.max_header:
            raise CorruptCheckpointError(
                path,
                f"a .keras archive whose weights are deflated: {member.size:,} bytes; more than {source.max_header:,} are not inflated",
            )
        where = Locate(path, start, member.packed, member.size)
    remarks += _odd_members(source)
    model = read_model_config(config) if config is not None else None
    metadata: dict[str, Any] = {key: reduced(value) for key, value in list((about or {}).items())[:50]}
    if model is not None and config is not None:
        metadata["model_config"] = model_summary(model)
        training = config.get("compile_config")
        if isinstance(training, dict):
            metadata["training_config"] = training_summary(training)
    with open_hdf5(source, where) as file:
        found = read_weights(file, source.size, model=model, metadata=metadata, name=NAME)
    return replace(found, remarks=(*remarks, *found.remarks))


def _json(source: Source, name: str, remarks: list[str]) -> dict[str, Any] | None:
    from ckptaudit.read.keras_config import MAX_CONFIG, parse_config

    member = source.zip.members.get(name)
    if member is None:
        remarks.append(f"{name} is missing from the archive")
        return None
    if member.size > MAX_CONFIG:
        remarks.append(f"{name} of {member.size:,} bytes is not read")
        return None
    return parse_config(source.zip.content(member, MAX_CONFIG), name, remarks.append)


def _odd_members(source: Source) -> list[str]:
    """Members whose names would lead out of a folder that they are unpacked into; nothing is unpacked here."""
    odd = [name for name in source.zip.members if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")]
    return [f"member {odd[0]!r} would be unpacked outside its folder" + (f", and {len(odd) - 1:,} more" if odd[1:] else "")] if odd else []
