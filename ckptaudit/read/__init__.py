"""File → Checkpoint. One module per format; nothing is executed and no tensor is loaded."""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Branch, Checkpoint, RefusedGlobal, Remark
    from ckptaudit.read.opening import open_checkpoint
    from ckptaudit.read.stored import Storage, StoredTensor

__all__ = ["Branch", "Checkpoint", "RefusedGlobal", "Remark", "Storage", "StoredTensor", "open_checkpoint"]

__getattr__ = loaded_when_used(
    __name__,
    {
        **dict.fromkeys(("Branch", "Checkpoint", "RefusedGlobal", "Remark"), "checkpoint"),
        **dict.fromkeys(("Storage", "StoredTensor"), "stored"),
        "open_checkpoint": "opening",
    },
)
