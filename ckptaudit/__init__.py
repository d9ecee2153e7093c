"""Audit a checkpoint against a freshly built model before anything is restored.

>>> audit = ckptaudit.audit("ckpt.pth", "deeplabv3_resnet50", intent="eval")
>>> audit.verdict.fit, audit.verdict.summary

Importing this package imports nothing heavy: each public name is loaded when it is first used.
"""

from __future__ import annotations

from ckptaudit._version import __version__
from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.arch import Model, build_model
    from ckptaudit.errors import CkptAuditError, IncompatibleCheckpoint
    from ckptaudit.identification import Identification
    from ckptaudit.pipeline import Audit, audit, identify, propose
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint, open_checkpoint
    from ckptaudit.restore.load import load
    from ckptaudit.restore.verify import verify
    from ckptaudit.restore.watch import guard
    from ckptaudit.rules import Finding
    from ckptaudit.verdict import Coverage, Verdict

_HOMES = {
    "Audit": "pipeline",
    "Checkpoint": "read",
    "CkptAuditError": "errors",
    "Coverage": "verdict",
    "Finding": "rules",
    "IncompatibleCheckpoint": "errors",
    "Identification": "identification",
    "Model": "arch",
    "Plan": "plan",
    "Verdict": "verdict",
    "audit": "pipeline",
    "build_model": "arch",
    "guard": "restore.watch",
    "load": "restore.load",
    "identify": "pipeline",
    "open_checkpoint": "read",
    "propose": "pipeline",
    "verify": "restore.verify",
}

__all__ = [
    "Audit",
    "Checkpoint",
    "CkptAuditError",
    "Coverage",
    "Finding",
    "Identification",
    "IncompatibleCheckpoint",
    "Model",
    "Plan",
    "Verdict",
    "__version__",
    "audit",
    "build_model",
    "guard",
    "identify",
    "load",
    "open_checkpoint",
    "propose",
    "verify",
]


__getattr__ = loaded_when_used(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
