"""Write files so that nothing is lost: never half-written, never over an existing one unless asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ckptaudit.errors import OutputError

#: Characters of an output's name in its temporary one: with four bytes each, the whole is still a name.
_SHOWN = 50


def write_file(path: str | os.PathLike[str], content: str | bytes, *, force: bool = False) -> None:
    """Write ``content`` to a temporary name beside ``path``, then rename it into place.

    Raises
    ------
    OutputError
        The file exists and ``force`` is not given, or it cannot be written.
    """
    with new_file(path, force=force) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextmanager
def new_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write into, under a temporary name beside ``path``; it gets its name when all is written, and is gone if not.

    Raises
    ------
    OutputError
        The file exists and ``force`` is not given, or it cannot be written.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        if is_stream(target):  # there is nothing to lose and nothing to rename
            with target.open("wb") as file:
                yield file
            return
        if force and target.is_symlink():
            target = target.resolve()
        mode = target.stat().st_mode if force and target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            raise OutputError(f"{path}: is not a regular file")
        # It has its name before it is there: whenever Ctrl-C comes, it is known what to take away.
        temporary = target.parent / f".{target.name[:_SHOWN]}.{os.urandom(8).hex()}"
        with open(temporary, "x+b", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # It was private so far; an output is as readable as any other file, or as the one that it replaces.
        temporary.chmod(0o666 & ~_umask() if mode is None else stat.S_IMODE(mode))
        _publish(temporary, target, force=force)
    except FileExistsError:
        raise OutputError(f"{path}: exists already; force=True (--force at the prompt) overwrites it") from None
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            _take_away(temporary)


def write_in_pieces(write: Callable[[memoryview], int], data: memoryview) -> None:
    """Write all of it with a function that writes some and gives how many bytes.

    A few hundred KiB at a time: for more at once Linux looks for large runs of free memory for its page cache, which can take several times
    as long as the writing.
    """
    while data:
        data = data[write(data[: 256 << 10]) :]


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` takes bytes without keeping them: ``/dev/null``, ``/dev/stdout``, a pipe."""
    return Path(path).is_char_device() or Path(path).is_fifo()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_away(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except KeyboardInterrupt:  # pressed again
        path.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)  # there is no way to ask for it without setting it
    os.umask(mask)
    return mask


def _publish(temporary: Path, target: Path, *, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, target)  # unlike a rename, this fails when the name is taken, whoever took it meanwhile
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(target) from None
        else:
            return
    temporary.replace(target)
