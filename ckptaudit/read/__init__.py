"""File → Checkpoint. One module per format; nothing is executed and no tensor is loaded."""

from ckptaudit.read.checkpoint import Branch, Checkpoint, RefusedGlobal, Remark
from ckptaudit.read.opening import open_checkpoint
from ckptaudit.read.stored import Storage, StoredTensor

__all__ = ["Branch", "Checkpoint", "RefusedGlobal", "Remark", "Storage", "StoredTensor", "open_checkpoint"]
