"""Where a finding points to in the project that is reviewed, and how it is known again in the next run."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ckptaudit.graph.names import common_prefix
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.report import Entry
    from ckptaudit.rules import Finding

#: Folders of installed libraries; they may lie inside the project (``.venv``), and still no review shows their lines.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Place:
    """A file, with slashes, and a line of it where there is one.

    ``path`` is relative to the project's root where ``inside``, and absolute otherwise.
    """

    path: str
    line: int | None
    inside: bool


def project_root() -> Path:
    """The repository that the working directory belongs to, or else the working directory itself."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def place_of(entry: Entry, finding: Finding | None = None) -> Place | None:
    """The line of the project's own code that a finding is about; else the line of configuration; else the checkpoint file."""
    root = project_root()
    for origin in (finding and finding.origin, entry.location):
        if origin and (relative := _within(origin.path, root)) and not _INSTALLED.intersection(Path(relative).parts):
            return Place(relative, origin.line, True)
    if entry.audit is None:
        return None
    file = str(entry.audit.checkpoint.path)
    relative = _within(file, root)
    return Place(relative or Path(file).absolute().as_posix(), None, bool(relative))


def _within(path: str, root: Path) -> str:
    """``path`` relative to ``root``, or ``""`` where it lies elsewhere or is none (a saved spec may say anything)."""
    try:
        spellings = os.path.abspath(path), os.path.realpath(path)  # noqa: PTH100 - Path.absolute keeps ".."
    except ValueError:
        return ""
    return next((Path(spelling).relative_to(root).as_posix() for spelling in spellings if Path(spelling).is_relative_to(root)), "")


def nearest(path: str) -> str:
    """A path as short as it can be named from here: relative, or below the library folder that holds it."""
    for root in (Path.cwd(), *map(Path, sys.path)):
        if str(root) not in ("", ".") and Path(path).is_relative_to(root):
            return str(Path(path).relative_to(root))
    return path


def subject(finding: Finding) -> str:
    """The module that a finding is about, of the model where it names any; ``""`` for all of it."""
    return common_prefix(finding.model or finding.checkpoint)


def fingerprinted(entry: Entry) -> Iterator[tuple[Finding, str]]:
    """Every finding, allowed ones last, with a hash that stays the same while its cause does.

    Figures, lines and the number of tensors do not enter: title, rule and module do, and a count where that is not enough.
    """
    import hashlib  # loads OpenSSL

    seen: Counter[tuple[str, str]] = Counter()
    for finding in (*entry.findings, *entry.allowed):
        key = (finding.rule, subject(finding))
        text = "\0".join([entry.title, *key, str(seen[key])])
        seen[key] += 1
        yield finding, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
