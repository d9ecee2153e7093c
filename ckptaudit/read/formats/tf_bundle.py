"""TensorFlow's checkpoint, named by its index: a table whose magic number ends the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source


_FOOTER = 48
_MAGIC = bytes.fromhex("57fb808b247547db")


def recognise(source: Source) -> bool:
    """Whether a table's magic number ends the file."""
    return source.size >= _FOOTER and source.data[-len(_MAGIC) :] == _MAGIC


def read(source: Source) -> Checkpoint:
    """Read the index, and of the shards only sizes and the object graph."""
    from ckptaudit.read.tf_bundle import read_bundle

    return read_bundle(source)
