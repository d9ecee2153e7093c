"""Which file it was that was checked, so that values are never read from another one that has taken its name."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.errors import CheckpointError, CorruptCheckpointError, NotACheckpointError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KINDS = (
    (stat.S_ISFIFO, "a FIFO (named pipe), not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a character device, not a file"),
    (stat.S_ISBLK, "a block device, not a file"),
    (stat.S_ISDIR, "a directory, not a file"),
)

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file as it was when it was checked.

    Attributes
    ----------
    path:
        Its name, for messages.
    absolute:
        Its name from the root, which holds whatever the working directory is later.
    state:
        Device, inode, size and time of the last change; None when there was no file.
    """

    path: Path
    absolute: str
    state: tuple[int, int, int, int] | None

    def open(self) -> int:
        """Open the file for reading, without waiting for anything, and give its descriptor.

        Raises
        ------
        CorruptCheckpointError
            It is not the file that was checked, or was changed since.
        CheckpointError
            The system does not let it be read.
        """
        kept = _KEPT.get().get(self)
        try:
            descriptor = os.open(self.absolute, _FLAGS) if kept is None else os.dup(kept)
        except (OSError, ValueError) as error:
            raise CheckpointError(self.path, unreadable(error)) from None
        try:
            self.confirm(descriptor)
        except CheckpointError:
            os.close(descriptor)
            raise
        return descriptor

    def confirm(self, descriptor: int) -> None:
        """Raise what :meth:`open` would if the open file is not, or no more, what was checked: what was read of it counts only then."""
        try:
            if file_state(os.fstat(descriptor)) == self.state:
                return
        except OSError as error:
            raise CheckpointError(self.path, unreadable(error)) from None
        raise CorruptCheckpointError(self.path, "changed while it was audited")

    def check(self) -> None:
        """Raise what :meth:`open` would."""
        os.close(self.open())


#: Stands for a file that is still to be looked up.
UNKNOWN = FileIdentity(Path(), "", None)

#: Files that are open for checking right now; whatever is found in them belongs to these, whoever holds their names by then.
_OPEN: dict[Path, FileIdentity] = {}


#: Files that must stay what they are for a while, whoever takes their names, with their descriptors.
_KEPT: ContextVar[Mapping[FileIdentity, int]] = ContextVar("_KEPT", default=MappingProxyType({}))


@contextmanager
def kept_open(files: Iterable[FileIdentity]) -> Iterator[None]:
    """Within, values are read from these very files even when others take their names meanwhile.

    Raises
    ------
    CheckpointError
        One of them is gone already, or is not the file that was checked.
    """
    kept = dict(_KEPT.get())
    with ExitStack() as stack:
        for file in files:
            if file not in kept:
                kept[file] = file.open()
                stack.callback(os.close, kept[file])
        stack.callback(_KEPT.reset, _KEPT.set(kept))
        yield


@contextmanager
def checked(path: Path, status: os.stat_result) -> Iterator[None]:
    """Within, everything that is found in the file ``path`` is found in the one that ``status`` describes."""
    before = _OPEN.get(path)
    _OPEN[path] = FileIdentity(path, _absolute(path), file_state(status))
    try:
        yield
    finally:
        if before is None:
            _OPEN.pop(path, None)
        else:
            _OPEN[path] = before


def identity_of(path: Path) -> FileIdentity:
    """The file ``path`` as it is being checked; one that is not open is taken as it is now."""
    known = _OPEN.get(path)
    if known is not None:
        return known
    try:
        state = file_state(path.stat())
    except (OSError, ValueError):
        state = None
    return FileIdentity(path, _absolute(path), state)


def _absolute(path: Path) -> str:
    try:
        return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 -- a tenth of what Path.absolute takes, for every file
    except OSError:  # the working directory is gone
        return str(path)


def file_state(status: os.stat_result) -> tuple[int, int, int, int]:
    """Device, inode, size and time of the last change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_regular(path: Path, mode: int) -> None:
    """Raise NotACheckpointError unless ``mode`` is a regular file's."""
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "a special file, not a regular one")
        raise NotACheckpointError(path, kind)


def unreadable(error: OSError | ValueError) -> str:
    """Why the system refused a file, in a few plain words."""
    if isinstance(error, FileNotFoundError):
        return "no such file (or a symbolic link to nothing)"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError):
        return (error.strerror or "cannot be read").lower()
    return "not a name that a file can have"
