"""The bytes of a large file by position, read as they are asked for and never mapped.

A process that has a file mapped is killed by SIGBUS when somebody cuts the file short; one that reads it is told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, overload

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.read.identity import file_state, unreadable

if TYPE_CHECKING:
    from pathlib import Path

#: Small parts of a header lie near each other: what surrounds them is read at once, and kept, 4 MiB in all.
_PAGE = 1 << 12
_WITHIN = _PAGE - 1
_KEPT = 1024
#: Who goes on shortly behind the last read, or before it, gets so much more at once.
_AHEAD = 1 << 16
#: What begins in a page and is short lies wholly in what was read with it.
LAP = 1 << 10
#: Bytes that a search looks at together.
_SEARCHED = 1 << 20


class FileBytes:
    """What :class:`bytes` of the whole file would give by index, slice and search.

    Every access may raise CorruptCheckpointError (the file is shorter than it was when it was opened) or CheckpointError (the system does
    not let it be read).

    Parameters
    ----------
    path:
        The file, for messages.
    descriptor, status:
        The file open for reading, which the caller closes, and what it was when it was opened.
    """

    def __init__(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        self._path, self._descriptor = path, descriptor
        self._state, self._size = file_state(status), status.st_size
        #: By position of each page: what was read with it, where that begins, and up to where pages begin in it.
        self._pages: dict[int, tuple[bytes, int, int]] = {}
        self._first = self._last = 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> bytes: ...

    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            start, stop, step = key.start, key.stop, key.step
            if start is None or stop is None or step is not None or not 0 <= start <= stop <= self._size:
                start, stop, step = key.indices(self._size)
                if step != 1:
                    raise ValueError("bytes of a file are read one after the other")
                stop = max(start, stop)
            found = self._pages.get(start & ~_WITHIN)
            if found is None:
                if stop - start > LAP:
                    return self._read(start, stop - start)
                found = self.near(start)
            near, first, last = found
            if stop > last + LAP:
                return self._read(start, stop - start)
            return near[start - first : stop - first]
        position = key if key >= 0 else key + self._size
        if not 0 <= position < self._size:
            raise IndexError("no byte of the file")
        near, first, _ = self.near(position)
        return near[position - first]

    def near(self, position: int) -> tuple[bytes, int, int]:
        """Bytes around ``position``, where in the file they begin, and up to where the next :data:`LAP` of the file are in them."""
        page = position & ~_WITHIN
        found = self._pages.get(page)
        if found is None:
            first, last = page, page + _PAGE
            if 0 <= page - self._last <= _AHEAD:
                last = page + _AHEAD
            elif 0 <= self._first - last <= _AHEAD:
                first = max(0, last - _AHEAD)
            self._first, self._last = first, last
            found = (self._read(first, min(last + LAP, self._size) - first), first, last)
            if len(self._pages) >= _KEPT:
                self._pages.clear()
            self._pages.update(dict.fromkeys(range(first, last, _PAGE), found))
        return found

    def find(self, wanted: bytes, start: int = 0, stop: int | None = None) -> int:
        """Where ``wanted`` first lies wholly between two positions that are not negative; -1 if nowhere."""
        stop = self._size if stop is None else min(stop, self._size)
        while start + len(wanted) <= stop:
            count = min(_SEARCHED, stop - start)
            found = self._read(start, count).find(wanted)
            if found >= 0:
                return start + found
            start += count - len(wanted) + 1
        return -1

    def changed(self) -> bool:
        """Whether the file is another than when it was opened, by its size and the time of its last change."""
        try:
            return file_state(os.fstat(self._descriptor)) != self._state
        except OSError:
            return True

    def other(self) -> CorruptCheckpointError:
        """The error that says so."""
        return CorruptCheckpointError(self._path, "changed while it was audited")

    def _read(self, start: int, count: int) -> bytes:
        try:
            found = os.pread(self._descriptor, count, start)
            while len(found) < count and (more := os.pread(self._descriptor, count - len(found), start + len(found))):
                found += more  # the system reads no more than 2 GiB at once
        except OSError as error:
            raise CheckpointError(self._path, unreadable(error)) from None
        if len(found) < count:
            raise self.other()
        return found
