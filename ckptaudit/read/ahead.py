"""Small tensors that lie side by side, read together: opening the file for each of a million takes longer than all else."""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.identity import FileIdentity

#: Bytes that are read at once where the last read ended shortly before.
_AHEAD = 64 << 10


class _Window:
    """The bytes that were read last."""

    def __init__(self) -> None:
        self.file: FileIdentity | None = None
        self.start = 0
        self.content = b""

    def take(self, file: FileIdentity, start: int, count: int) -> bytes:
        """``count`` bytes of the file from ``start`` on, fewer where it ends."""
        end = self.start + len(self.content)
        if file is not self.file or not self.start <= start <= start + count <= end:
            near = file is self.file and self.start <= start <= end + _AHEAD
            descriptor = file.open()
            try:
                content = os.pread(descriptor, max(count, _AHEAD) if near else count, start)
                file.confirm(descriptor)
            finally:
                os.close(descriptor)
            self.file, self.start, self.content = file, start, content
        return self.content[start - self.start : start - self.start + count]


_WINDOW: ContextVar[_Window | None] = ContextVar("_WINDOW", default=None)


@contextmanager
def reading_ahead() -> Iterator[None]:
    """Within, what is taken of a file may have been read, and the file checked, together with what lies up to 64 KiB before it."""
    before = _WINDOW.set(_Window())
    try:
        yield
    finally:
        _WINDOW.reset(before)


def taken_ahead(file: FileIdentity, start: int, count: int) -> bytes | None:
    """The bytes, or None outside of :func:`reading_ahead`, for many bytes, or where the file is shorter.

    Raises
    ------
    CheckpointError
        It is not the file that was checked, or was changed since.
    OSError
        It cannot be read.
    """
    window = _WINDOW.get()
    if window is None or count > _AHEAD:
        return None
    content = window.take(file, start, count)
    return content if len(content) == count else None
