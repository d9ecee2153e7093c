"""Opening a checkpoint: which file is meant, and which format it is of."""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ckptaudit.errors import CheckpointError, CorruptCheckpointError, NotACheckpointError, UsageError
from ckptaudit.garbage import collector_paused
from ckptaudit.graph.names import MAX_DIGITS
from ckptaudit.lazily import compiled_when_used
from ckptaudit.read.formats import IN_ORDER
from ckptaudit.read.source import Source, opened, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.checkpoint import Checkpoint

#: Names by which a folder tells which of its files is the checkpoint, the likeliest first.
_IN_FOLDER = (
    "*.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "*.bin.index.json",
    "*.safetensors",
    "*.pth",
    "*.pt",
    "*.ckpt",
    "*.bin",
    "*.th",
    "*.pkl",
    "*.keras",
    "*.h5",
    "*.hdf5",
    "*.index",
    "variables/variables.index",
)

#: The environment variable that moves the limit of headers, and the limit without it.
MAX_HEADER, _MAX_HEADER = "CKPTAUDIT_MAX_HEADER", 100 << 20

_SHARD_OF_BUNDLE = compiled_when_used(r"\.data-\d{5}-of-\d{5}\Z")
_LATEST = rb'(?m)^model_checkpoint_path: "([^"\n]*)"'
_MAX_STATE = 64 << 10

#: Parts of a name between dots and slashes. Honest models stay below 30; whatever walks a tree of names is quadratic in its depth.
MAX_PARTS = 256
_NUMBER = rf"\d{{{MAX_DIGITS}}}"


class Format(Protocol):
    """What a module in :mod:`ckptaudit.read.formats` offers, which that package then names."""

    def recognise(self, source: Source) -> bool:
        """Whether the content is of this format, by its first bytes or its directory."""

    def read(self, source: Source) -> Checkpoint:
        """Read it, or raise a CheckpointError."""


def formats() -> Iterator[Format]:
    """All formats, in the order in which they are asked."""
    for name in IN_ORDER:
        yield cast("Format", importlib.import_module(f"ckptaudit.read.formats.{name}"))


def open_checkpoint(path: str | os.PathLike[str], *, branch: str | None = None, max_header: int | None = None) -> Checkpoint:
    """Read a checkpoint without executing it and without loading its tensors.

    Parameters
    ----------
    path:
        A file, an index of shards, or a folder that holds one of them.
    branch:
        Name of the branch to audit; by default the one that looks most like a model.
    max_header:
        Largest header, in bytes, that is taken into memory; by default what ``CKPTAUDIT_MAX_HEADER`` says, or 100 MiB.

    Raises
    ------
    NotACheckpointError
        The content is of no format that is read here; the message says what it looks like.
    CorruptCheckpointError
        The format is known, but the file is damaged or contradicts itself.
    BranchError
        There is no branch of this name.
    CheckpointError
        The file cannot be opened.
    UsageError
        It is no path.
    """
    with opened_checkpoint(_path_of(path), max_header) as (_, checkpoint):
        pass
    return checkpoint if branch is None else checkpoint.with_branch(branch)


def _path_of(given: object) -> Path:
    if isinstance(given, str | os.PathLike):
        return Path(given)
    hint = ""
    if isinstance(given, Mapping):
        hint = "; a state dict in memory is audited when model.load_state_dict is called inside `with ckptaudit.guard(model):`"
    raise UsageError(
        f"a checkpoint is the path of a file, or what ckptaudit.open_checkpoint gives, not of type {type(given).__name__}{hint}"
    )


@contextmanager
def opened_checkpoint(path: Path, max_header: int | None = None) -> Iterator[tuple[Source, Checkpoint]]:
    """What :func:`open_checkpoint` reads, while its file is still open."""
    with opened(_file_of(path), header_limit() if max_header is None else max_header) as source:
        with collector_paused():
            try:
                checkpoint = next((f.read(source) for f in formats() if f.recognise(source)), None)
            except RecursionError:
                raise NotACheckpointError(path, "nested too deep to be a checkpoint") from None
            if checkpoint is None:
                raise _unknown(source)
        _refuse_deep_names(checkpoint)
        yield source, checkpoint


def _unknown(source: Source) -> NotACheckpointError:
    """What the file is instead, and what the pickles within it would call: somebody may load them by other means."""
    from ckptaudit.read.sniff import describe, is_tar

    words = describe(source) or "no checkpoint of a known format: neither its first bytes nor its end tell what it is"
    error = NotACheckpointError(source.path, words)
    if source.is_zip:
        from ckptaudit.read.torch_zips import refusals_within
    elif is_tar(source.head):
        from ckptaudit.read.tars import refusals_within
    elif source.head.startswith(b"\x93NUMPY"):
        from ckptaudit.read.npy import refusals_within
    else:
        return error
    try:
        with refusals_within(source).told_on_error():
            raise error
    except NotACheckpointError as told:
        return told


def header_limit() -> int:
    """Bytes that a header may have: ``CKPTAUDIT_MAX_HEADER``, a number with or without K, M or G, or 100 MiB.

    Raises
    ------
    UsageError
        It is no such number.
    """
    told = os.environ.get(MAX_HEADER)
    if not told:
        return _MAX_HEADER
    number = re.fullmatch(r"(\d{1,12})([KMG]?)", told.strip().upper())
    if number is None:
        raise UsageError(f"{told!r} is no size of a header: give bytes, or a number with K, M or G")
    return int(number[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[number[2]]


def _refuse_deep_names(checkpoint: Checkpoint) -> None:
    for branch in checkpoint.branches:
        for names in ((branch.name,), branch.tensors, branch.modules, branch.attributes):
            for name in names:
                if len(name) >= MAX_DIGITS and re.search(_NUMBER, name):
                    raise CorruptCheckpointError(
                        checkpoint.path, f"the name {name[:40]!r}… holds a number of more than {MAX_DIGITS} digits"
                    )
                # Most names are shorter than so many separators.
                if len(name) >= MAX_PARTS and (parts := name.count(".") + name.count("/") + 1) > MAX_PARTS:
                    raise CorruptCheckpointError(
                        checkpoint.path, f"the name {name[:40]!r}… has {parts:,} parts; more than {MAX_PARTS} are not read"
                    )


def _file_of(path: Path) -> Path:
    """The file itself, the index that a prefix or a shard of TensorFlow means, or the one in the folder that is the checkpoint."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            if _SHARD_OF_BUNDLE.search(path.name):
                index = path.with_name(_SHARD_OF_BUNDLE.sub(".index", path.name))
                return index if index.is_file() else path
            return path
        names = sorted(path.iterdir())
    except FileNotFoundError as error:
        index = path.with_name(f"{path.name}.index")
        if path.name and index.is_file():
            return index
        raise CheckpointError(path, unreadable(error)) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(path, unreadable(error)) from None
    latest = _latest_in(path)
    if latest is not None:
        return latest
    for pattern in _IN_FOLDER:
        found = [path / pattern] if "/" in pattern and (path / pattern).is_file() else [name for name in names if name.match(pattern)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(name.name for name in found[:5])
            raise NotACheckpointError(
                path, f"a directory with {len(found)} checkpoints ({shown}{' …' if len(found) > 5 else ''}); name one of them"
            )
    raise NotACheckpointError(path, "a directory that holds neither a checkpoint nor an index of shards")


def _latest_in(folder: Path) -> Path | None:
    """The index of the checkpoint that TensorFlow's file ``checkpoint`` calls the latest: by its last name, within this folder only."""
    state = folder / "checkpoint"
    if not state.is_file() or state.stat().st_size > _MAX_STATE:
        return None
    try:
        with opened(state, 0) as source:
            found = re.search(_LATEST, source.data[:])
            name = found[1].decode("utf-8", "replace") if found else None
    except CheckpointError:
        return None
    if name is None:
        return None
    last = name.replace("\\", "/").rpartition("/")[2]
    index = folder / f"{last}.index"
    return index if "\0" not in index.name and index.is_file() else None
