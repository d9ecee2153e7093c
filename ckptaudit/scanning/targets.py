"""Which files are meant: those that are named, those that a pattern matches, and the checkpoints in folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckptaudit.read.links import leaves
from ckptaudit.records import dataclass

#: Endings by which people know a checkpoint. A file in a folder that ends so and cannot be read is told of; another is passed over.
SUFFIXES = frozenset(
    (
        *(".pth", ".pt", ".ckpt", ".bin", ".th", ".t7", ".jit", ".ptl", ".mar", ".pkl", ".pickle", ".joblib", ".model"),
        *(".safetensors", ".h5", ".hdf5", ".keras", ".index", ".pb", ".onnx"),
    )
)
_MAGIC = frozenset("*?[")  # what makes a pattern of a name
_UNVISITED = frozenset({".git", ".hg", ".svn"})  # objects of a version control system, compressed


@dataclass(frozen=True, slots=True)
class Target:
    """A file to scan.

    Attributes
    ----------
    path:
        Its name.
    named:
        Whether somebody named it, rather than a folder that holds it.
    refused:
        Why it is not to be opened, or ``""``.
    """

    path: Path
    named: bool
    refused: str = ""

    @property
    def stray(self) -> bool:
        """Whether it was found in a folder and is not named like a checkpoint."""
        return not self.named and self.path.suffix.lower() not in SUFFIXES and not self.path.name.endswith(".index.json")


def targets(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Target]:
    """The files that are meant by ``paths``, each once; what is missing stays, so that it is told of."""
    seen: set[str] = set()
    for given in paths:
        text = os.fspath(given)
        matched = [] if _MAGIC.isdisjoint(text) or os.path.lexists(text) else _matching(text)
        for name in matched or [text]:
            path = Path(name)
            for target in _within(path) if path.is_dir() else [Target(path, True)]:
                key = os.path.abspath(target.path)  # noqa: PTH100 -- resolving would follow links
                if key not in seen:
                    seen.add(key)
                    yield target


def _matching(pattern: str) -> list[str]:
    from glob import glob

    return sorted(glob(pattern, recursive=True))  # noqa: PTH207


def _within(folder: Path) -> Iterator[Target]:
    """Regular files below ``folder``; links out of it are named and not followed. Indices come first: they say what belongs together."""
    for top, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name not in _UNVISITED)
        for name in sorted(files, key=lambda name: (not name.endswith((".index.json", ".index", ".onnx")), name)):
            path = Path(top, name)
            try:
                if path.is_symlink() and leaves(path, folder):
                    if path.suffix.lower() in SUFFIXES:
                        yield Target(path, False, "a symbolic link that leaves the folder; name it to have it scanned")
                    continue
                regular = stat.S_ISREG(path.stat().st_mode)
            except (OSError, RuntimeError, ValueError):
                # A link to nothing, or in a circle: told of where it is named like a checkpoint.
                regular = path.suffix.lower() in SUFFIXES
            if regular:
                yield Target(path, False)
