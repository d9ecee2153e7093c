"""Every error that ckptaudit raises on purpose.

The command line turns each into one line and an exit code; nothing else about a bad input may reach the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit


class CkptAuditError(Exception):
    """Base of all errors raised on purpose. Its text is one line, fit to be shown to a user."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CheckpointError(CkptAuditError):
    """A file could not be audited: what it is, and why.

    Parameters
    ----------
    path:
        The file as the user named it.
    reason:
        What the file looks like, in words that help ("a git-lfs pointer, not the file itself").

    Attributes
    ----------
    refused_globals:
        What its pickles name and was not imported, as far as they could be followed: damage must not hide an attack.
    """

    refused_globals: tuple[Any, ...] = ()

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class NotACheckpointError(CheckpointError):
    """The content is of no format that holds weights (text, HTML, an image, an empty file …)."""


class CorruptCheckpointError(CheckpointError):
    """The format is known, but the file is truncated, contradicts itself or breaks its format's rules."""


class ValuesUnavailableError(CheckpointError):
    """The tensor is known by name and shape, but its values are not in the file (a missing shard, a placeholder)."""


class BranchError(CheckpointError):
    """``--branch`` names a branch that the file does not have, or the file has no branch with tensors."""


class ArchitectureError(CkptAuditError):
    """The model could not be built: an unknown name, a missing library, or a factory that raised."""


class ImagesError(CkptAuditError):
    """Images could not be run through a model: there are none, they are damaged, or it is not known how large they are to be."""


class UsageError(CkptAuditError):
    """The call contradicts itself; nothing was audited."""

    exit_code = 2


class OutputError(CkptAuditError):
    """An output could not be written, or exists already and was not to be overwritten."""


class PlanError(CkptAuditError):
    """A plan is not well-formed, does not belong to this checkpoint, or has a step that cannot be carried out."""


class IncompatibleCheckpoint(CkptAuditError):  # noqa: N818 (the public name: what is the case, not that it is an error)
    """A checkpoint does not serve its intent, so nothing was restored. Its text is the short report, several lines.

    Attributes
    ----------
    audit:
        The audit that says so; its ``plan`` is what would make the checkpoint fit, where anything would. None in another process
        than the one that raised it.
    """

    exit_code = 1

    def __init__(self, report: str, audit: Audit) -> None:
        super().__init__("")
        self.args = (report,)
        self.report = report
        self.audit = audit

    def __str__(self) -> str:
        return self.report

    def __reduce__(self) -> tuple[type[IncompatibleCheckpoint], tuple[str, None]]:
        return type(self), (self.report, None)


class ContractError(CkptAuditError):
    """The contracts of a project cannot be used: a key is unknown, missing or wrong, or a contract is not as it was locked."""


class LockError(CkptAuditError):
    """The lock is missing, is not well-formed, or holds nothing of a contract."""


class RevisionError(CkptAuditError):
    """Another revision of the project could not be laid beside this one."""
