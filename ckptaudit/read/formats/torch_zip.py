"""Torch's zip: ``<root>/data.pkl`` beside one member per storage, each stored as it is, so that a tensor can be read in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source

NAME = "torch-zip"


def recognise(source: Source) -> bool:
    """Whether it is a zip with a ``data.pkl`` and no code."""
    if not source.is_zip:
        return False
    from ckptaudit.read.torch_zips import is_script, root_of

    return root_of(source) is not None and not is_script(source)


def read(source: Source) -> Checkpoint:
    """Read ``data.pkl`` and where the storages lie."""
    from ckptaudit.read.torch_zips import read_object

    return read_object(source, NAME)
