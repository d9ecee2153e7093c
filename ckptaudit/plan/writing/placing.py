"""Tensors written to their places in a file, several at a time.

Where a tensor's values will lie is known before any is read. So each thread takes tensors from the first on, reads them, lays them out and
writes them by itself, and all processors have the same to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from ckptaudit.files import write_in_pieces
from ckptaudit.plan.writing.entries import CHUNK, Entry, Scratch, lies_as_wanted, nbytes_of, opened, pieces, short
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

#: Threads at most, bytes that are worth handing to one of them, and bytes that all of them may hold of tensors that are laid out anew.
_THREADS, _RUN, _MEMORY = min(4, os.cpu_count() or 1), 1 << 20, 1 << 30
#: Bytes after which the system begins to put them on the disk.
_TO_DISK = 32 << 20


@dataclass(frozen=True, slots=True)
class Placed:
    """One tensor of the file to be, and where its values lie in it.

    ``told`` is called with the CRC-32 of the values once they are written, from any thread; where there is none, none is computed.
    """

    entry: Entry
    at: int
    told: Callable[[int], None] | None = None


def write_placed(placed: Sequence[Placed], checkpoint: Checkpoint, file: BinaryIO) -> Iterator[int]:
    """Write the tensors; yields the bytes that were written, piece by piece.

    Parameters
    ----------
    placed:
        In the order of their places. Into a pipe they are written one after the other, so that nothing may lie between them.

    Raises
    ------
    CkptAuditError, OSError
        A tensor cannot be computed, read or written; no thread writes any more then.
    """
    file.flush()  # what follows goes past Python's buffer
    runs: SimpleQueue[list[Placed]] = SimpleQueue()
    for run in _runs(placed):
        runs.put(run)
    largest = max((_held(one.entry, checkpoint) for one in placed), default=0)
    threads = min(_THREADS, runs.qsize(), max(1, _MEMORY // max(1, largest))) if file.seekable() else min(1, runs.qsize())
    done: SimpleQueue[int | BaseException | None] = SimpleQueue()
    work = _Work(checkpoint, file, runs, done)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for _ in range(threads):
            pool.submit(work.go)
        try:
            while threads:
                count = done.get()
                if isinstance(count, BaseException):
                    raise count
                if count is None:
                    threads -= 1
                else:
                    yield count
        finally:
            work.stopped = True


def _held(entry: Entry, checkpoint: Checkpoint) -> int:
    """Bytes of a tensor that is read as a whole before it is written."""
    return 0 if lies_as_wanted(entry, checkpoint) else sum(nbytes_of(checkpoint.branch.tensors[name]) for name in entry.step.sources)


def _runs(placed: Iterable[Placed]) -> Iterator[list[Placed]]:
    run: list[Placed] = []
    nbytes = 0
    for one in placed:
        run.append(one)
        nbytes += one.entry.nbytes
        if nbytes >= _RUN:
            yield run
            run, nbytes = [], 0
    if run:
        yield run


class _Work:
    """What every thread does."""

    def __init__(
        self, checkpoint: Checkpoint, file: BinaryIO, runs: SimpleQueue[list[Placed]], done: SimpleQueue[int | BaseException | None]
    ) -> None:
        self._checkpoint, self._runs, self._done = checkpoint, runs, done
        self._descriptor, self._seekable = file.fileno(), file.seekable()
        self.stopped = False

    def go(self) -> None:
        """Take runs until there are none, or another thread has failed."""
        try:
            scratch = Scratch()
            with suppress(Empty):
                while not self.stopped:
                    self._write_run(self._runs.get_nowait(), scratch)
        except BaseException as error:  # told where it can be raised
            self.stopped = True
            self._done.put(error)
        finally:
            self._done.put(None)

    def _write_run(self, run: Sequence[Placed], scratch: Scratch) -> None:
        begun = run[0].at
        for one in run:
            end, check = one.at, 0
            for piece in self._pieces(one, scratch):
                if self.stopped:
                    return
                if isinstance(piece, int):
                    count = piece
                else:
                    count = len(piece)
                    if one.told is not None:
                        check = crc32(piece, check)
                    self._put(piece, end)
                end += count
                self._done.put(count)
                if end - begun >= _TO_DISK:
                    self._begin_to_disk(begun, end)
                    begun = end
            if one.told is not None:
                one.told(check)
        if end - begun >= _RUN:
            self._begin_to_disk(begun, end)

    def _pieces(self, one: Placed, scratch: Scratch) -> Iterator[memoryview | int]:
        """The pieces to write; numbers of bytes where the system has copied them already, from file to file."""
        left = one.entry.nbytes
        if one.told is None and left and lies_as_wanted(one.entry, self._checkpoint):
            with suppress(AttributeError, OSError):  # another system, or two file systems between which it cannot: what is left is read
                for count in self._moved(one):
                    left -= count
                    yield count
        yield from pieces(one.entry, self._checkpoint, scratch, first=one.entry.nbytes - left)

    def _moved(self, one: Placed) -> Iterator[int]:
        tensor = self._checkpoint.branch.tensors[one.entry.step.sources[0]]
        with opened(tensor, one.entry.nbytes) as source:
            at, end, place = source.tell(), source.tell() + one.entry.nbytes, one.at if self._seekable else None
            while at < end:
                count = os.copy_file_range(source.fileno(), self._descriptor, min(end - at, CHUNK), at, place)
                if not count:
                    raise short(tensor, at)
                at += count
                place = None if place is None else place + count
                yield count

    def _put(self, piece: memoryview, at: int) -> None:
        if self._seekable:
            place = at

            def write(part: memoryview) -> int:
                nonlocal place
                count = os.pwrite(self._descriptor, part, place)
                place += count
                return count

        else:

            def write(part: memoryview) -> int:
                return os.write(self._descriptor, part)

        write_in_pieces(write, piece)

    def _begin_to_disk(self, begin: int, end: int) -> None:
        """Have the system put pages on the disk at once that are said to be of no more use, and not all at the end, where everything waits.

        Those under way stay in memory, so that who reads the file next has them.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # a pipe has no places and is not on a disk
                os.posix_fadvise(self._descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)
