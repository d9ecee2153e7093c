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
#: Of these, endings that mean other things, too, in the midst of a name: `user.model.ts`, `page.index.html`.
_LAST_ONLY = frozenset({".model", ".index", ".pb", ".mar"})
#: Endings of what lies beside a checkpoint and is called after it. `model.pth.tar`, `model.ckpt.gz` and `model.pt.bak` are checkpoints.
_BESIDE = frozenset(
    (
        *(".meta", ".metadata", ".json", ".yaml", ".yml", ".toml", ".txt", ".md", ".rst", ".html", ".xml", ".csv", ".tsv", ".log", ".dvc"),
        *(".md5", ".sha1", ".sha256", ".sha512", ".crc32", ".sig", ".asc", ".pem", ".lock", ".torrent", ".aria2"),
        *(".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".py", ".pyc", ".ipynb", ".sh", ".js", ".ts", ".c", ".h", ".cc", ".cpp", ".hpp"),
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
        return not self.named and not named_like_checkpoint(self.path)


def named_like_checkpoint(path: Path) -> bool:
    """Whether the name ends as a checkpoint's does, or did before it was packed or put aside: `model_best.pth.tar`, `last.ckpt.bak`."""
    *inner, last = (suffix.lower() for suffix in path.suffixes or ("",))
    if last in SUFFIXES or path.name.endswith(".index.json"):
        return True
    return last not in _BESIDE and not last.startswith(".data-") and any(suffix in SUFFIXES - _LAST_ONLY for suffix in inner)


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
                    if named_like_checkpoint(path):
                        yield Target(path, False, "a symbolic link that leaves the folder; name it to have it scanned")
                    continue
                regular = stat.S_ISREG(path.stat().st_mode)
            except (OSError, RuntimeError, ValueError):
                # A link to nothing, or in a circle: told of where it is named like a checkpoint.
                regular = named_like_checkpoint(path)
            if regular:
                yield Target(path, False)
