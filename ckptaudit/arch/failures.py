"""Errors of foreign code, told in one line: what was raised, and which line of the user's own code is to blame."""

from __future__ import annotations

import os
from pathlib import Path

_LONGEST_MESSAGE = 300


def describe_error(error: BaseException) -> str:
    """``TypeError: what it says``, line breaks folded, cut where it gets too long to be read."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # str() of a foreign exception is foreign code too
        text = ""
    if len(text) > _LONGEST_MESSAGE:
        text = text[: _LONGEST_MESSAGE - 1] + "…"
    return f"{name}: {text}" if text else name


def blamed_line(error: BaseException, home: Path | None) -> str:
    """Name the line that raised, as `` (models.py, line 12)``; empty where none can be named.

    Parameters
    ----------
    error:
        What the foreign code raised.
    home:
        Folder of the user's code: the innermost frame in it is blamed, rather than the library function that it called wrongly.
        None where all code is a library's.
    """
    if isinstance(error, SyntaxError):
        return ""  # its text already names file and line
    if home is None:
        return ""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(Path(frame.filename), home)]
    return f" ({shown_path(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""


def _is_own(file: Path, home: Path) -> bool:
    """Whether ``file`` is the user's code: below ``home``, but in no environment that stands there, and no part of this package."""
    below = file.is_relative_to(home) and "site-packages" not in file.relative_to(home).parts
    return below and not file.is_relative_to(Path(__file__).parent)


def shown_path(path: str | Path) -> str:
    """``path`` relative to the working directory where it lies below it, otherwise absolute."""
    absolute = os.path.abspath(path)  # noqa: PTH100 (resolving links would show a path that the user never typed)
    try:
        return str(Path(absolute).relative_to(Path.cwd()))
    except (ValueError, OSError):  # OSError: the working directory is gone
        return absolute
