"""Tensors written to their places in a file, several at a time.

Where a tensor's values will lie is known before any is read. So each thread takes tensors from the first on, reads them, lays them out and
writes them by itself, and all processors have the same to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from ckptaudit.files import write_in_pieces
from ckptaudit.plan.writing.entries import CHUNK, Entry, Scratch, held, lies_as_wanted, opened, pieces
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

#: Threads at most, and bytes that are worth handing to one of them: tiny tensors take longer to pass on than to copy.
_THREADS, _RUN, _TINY = min(4, os.cpu_count() or 1), 1 << 20, 64 << 10
#: Bytes that each thread may hold; tensors that take more are laid out one at a time.
_EACH = 256 << 20
#: Bytes after which the system begins to put them on the disk.
_TO_DISK = 32 << 20


@dataclass(frozen=True, slots=True)
class Placed:
    """One tensor of the file to be, and where its values lie in it.

    ``head`` makes of their CRC-32 what stands right before them, and is written after them; where there is none, no CRC is computed.
    """

    entry: Entry
    at: int
    head: Callable[[int], bytes] | None = None


def write_placed(placed: Sequence[Placed], checkpoint: Checkpoint, file: BinaryIO) -> Iterator[int]:
    """Write the tensors; yields the bytes that were written, some at a time.

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
    common = _Common(checkpoint, file.seekable())
    if not common.seekable or sum(one.entry.nbytes for one in placed) < _RUN:
        yield from _Writer(common, file.fileno()).write(placed)
        return
    from concurrent.futures import ThreadPoolExecutor  # takes longer to import than a small file to write

    runs: SimpleQueue[Sequence[Placed]] = SimpleQueue()
    for run in _runs(placed):
        runs.put(run)
    tiny = sum(one.entry.nbytes for one in placed) < _TINY * len(placed)
    threads = min(1 if tiny else _THREADS, runs.qsize())
    done: SimpleQueue[int | BaseException | None] = SimpleQueue()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for _ in range(threads):
            # Each has a descriptor of its own: should it not be waited for, it still writes to no other file.
            pool.submit(_work, common, os.dup(file.fileno()), runs, done)
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
            common.stopped.set()


def _runs(placed: Iterable[Placed]) -> Iterator[Sequence[Placed]]:
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


def _work(common: _Common, descriptor: int, runs: SimpleQueue[Sequence[Placed]], done: SimpleQueue[int | BaseException | None]) -> None:
    """What each thread does: take runs until there are none, or another thread has failed."""
    try:
        writer = _Writer(common, descriptor)
        with suppress(Empty, _StoppedError):
            while True:
                for count in writer.write(runs.get_nowait()):
                    done.put(count)
    except BaseException as error:  # raised where somebody waits for it
        common.stopped.set()
        done.put(error)
    finally:
        os.close(descriptor)
        done.put(None)


class _StoppedError(Exception):
    """Nothing is to be written any more."""


class _Common:
    """What all threads have in common."""

    def __init__(self, checkpoint: Checkpoint, seekable: bool) -> None:
        self.checkpoint, self.seekable = checkpoint, seekable
        self.stopped, self.alone = Event(), Lock()


class _Writer:
    """Writes tensors, one after the other, to a file that others write to as well."""

    def __init__(self, common: _Common, descriptor: int) -> None:
        self._common, self._descriptor = common, descriptor
        self._scratch = Scratch()

    def write(self, run: Sequence[Placed]) -> Iterator[int]:
        """Write these tensors, which follow each other; yields numbers of bytes."""
        begun = end = run[0].at if run else 0
        told = 0
        for one in run:
            end, check = one.at, 0
            large = held(one.entry, self._common.checkpoint) > _EACH
            with self._common.alone if large else nullcontext():
                for piece in self._pieces(one, Scratch() if large else self._scratch):
                    if isinstance(piece, int):
                        end += piece
                    else:
                        if one.head is not None:
                            check = crc32(piece, check)
                        self._put(piece, end)
                        end += len(piece)
                    if end - begun >= _TO_DISK:
                        self._begin_to_disk(begun, end)
                        begun = end
                    if (told := told + (piece if isinstance(piece, int) else len(piece))) >= _RUN:
                        yield told
                        told = 0
            if one.head is not None:
                head = one.head(check)
                self._put(memoryview(head), one.at - len(head))
        if end - begun >= _RUN:
            self._begin_to_disk(begun, end)
        yield told

    def _pieces(self, one: Placed, scratch: Scratch) -> Iterator[memoryview | int]:
        """The pieces to write; numbers of bytes where the system has copied them already, from file to file."""
        left = one.entry.nbytes
        if one.head is None and left and lies_as_wanted(one.entry, self._common.checkpoint):
            with suppress(AttributeError, OSError):  # another system, or two file systems between which it cannot: what is left is read
                for count in self._moved(one):
                    left -= count
                    yield count
        if left or not one.entry.nbytes:
            yield from pieces(one.entry, self._common.checkpoint, scratch, first=one.entry.nbytes - left)

    def _moved(self, one: Placed) -> Iterator[int]:
        tensor = self._common.checkpoint.branch.tensors[one.entry.step.sources[0]]
        with opened(tensor, one.entry.nbytes) as source:
            at, end, place = source.tell(), source.tell() + one.entry.nbytes, one.at if self._common.seekable else None
            while at < end:
                self._go_on()
                count = os.copy_file_range(source.fileno(), self._descriptor, min(end - at, CHUNK), at, place)
                if not count:
                    return
                at += count
                place = None if place is None else place + count
                yield count
            tensor.storage.file.confirm(source.fileno())

    def _put(self, piece: memoryview, at: int) -> None:
        def write(part: memoryview) -> int:
            nonlocal at
            self._go_on()
            count = os.pwrite(self._descriptor, part, at) if self._common.seekable else os.write(self._descriptor, part)
            at += count
            return count

        write_in_pieces(write, piece)

    def _go_on(self) -> None:
        if self._common.stopped.is_set():
            raise _StoppedError

    def _begin_to_disk(self, begin: int, end: int) -> None:
        """Have the system put pages on the disk at once that are said to be of no more use, and not all at the end, where everything waits.

        Those under way stay in memory, so that who reads the file next has them.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # a pipe has no places and is not on a disk
                os.posix_fadvise(self._descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)
