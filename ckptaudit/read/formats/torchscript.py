"""TorchScript: a torch zip whose ``data.pkl`` holds the module itself, as nested objects of classes that the archive defines."""

from __future__ import annotations

from ckptaudit.read.checkpoint import Checkpoint
from ckptaudit.read.source import Source
from ckptaudit.read.torch_zips import is_script, read_object, root_of

ORDER = 11
NAME = "torchscript"


def recognise(source: Source) -> bool:
    """Whether it is a torch zip with constants or code."""
    return source.is_zip and root_of(source) is not None and is_script(source)


def read(source: Source) -> Checkpoint:
    """Read the module's attributes; its code is never compiled."""
    return read_object(source, NAME, own_classes=("__torch__.", "torch.jit._pickle.", "torch.torch_"))
