"""One opened file: its bytes by position, its size, its first bytes. What was checked is what is read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from ckptaudit.errors import CheckpointError, NotACheckpointError
from ckptaudit.read.file_bytes import FileBytes
from ckptaudit.read.identity import check_regular, checked, unreadable
from ckptaudit.records import dataclass

__all__ = ["Source", "check_regular", "opened", "unreadable"]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckptaudit.read.zips import ZipDirectory

#: Enough for every magic number, and for a look at what a text file says.
_HEAD = 4096

#: Files up to this are taken into memory.
_SMALL = 16 << 20


@dataclass(frozen=True, eq=False)
class Source:
    """A regular file, opened once.

    Attributes
    ----------
    path:
        The file as the user named it.
    data:
        Its bytes; of a large file only those that are looked at are ever read.
    max_header:
        Largest header, in bytes, that a reader may take into memory.
    """

    path: Path
    data: FileBytes | bytes
    max_header: int

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.data)

    @cached_property
    def head(self) -> bytes:
        """The first bytes."""
        return self.data[:_HEAD]

    @property
    def is_zip(self) -> bool:
        """Whether it begins as a zip does (an empty one begins with its end record)."""
        return self.head.startswith((b"PK\x03\x04", b"PK\x05\x06"))

    @cached_property
    def zip(self) -> ZipDirectory:
        """The directory of a zip file, read and checked once."""
        from ckptaudit.read.zips import ZipDirectory

        return ZipDirectory.parse(self.path, self.data, self.max_header)

    def zip_first_member(self, name: str) -> int | None:
        """Where the content of the file's first member begins, if that is called so; needs no directory."""
        from ckptaudit.read.zips import first_member

        return first_member(self.data, name)


@contextmanager
def opened(path: Path, max_header: int) -> Iterator[Source]:
    """Open a regular file; anything else is refused before it is opened, for opening a FIFO would wait for ever.

    Raises
    ------
    NotACheckpointError
        It is no regular file, or empty.
    CorruptCheckpointError
        It changed in the meantime.
    CheckpointError
        The system does not let it be read.
    """
    try:
        check_regular(path, path.stat().st_mode)
        # Between stat and open the name may come to mean a FIFO: never wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise CheckpointError(path, unreadable(error)) from None
    try:
        status = os.fstat(descriptor)
        check_regular(path, status.st_mode)
        if not status.st_size:
            raise NotACheckpointError(path, "an empty file")
        with checked(path, status):
            yield from _read_from(path, descriptor, status, max_header)
    finally:
        os.close(descriptor)


def _read_from(path: Path, descriptor: int, status: os.stat_result, max_header: int) -> Iterator[Source]:
    """The file's bytes for the time of its audit, whose result counts only if the file is the same at the end."""
    whole = FileBytes(path, descriptor, status)
    data = whole[:] if len(whole) <= _SMALL else whole
    try:
        yield Source(path, data, max_header)
    except Exception:
        # Two looks at a file that changes between them may contradict each other in any way.
        if whole.changed():
            raise whole.other() from None
        raise
    if whole.changed():
        raise whole.other()
