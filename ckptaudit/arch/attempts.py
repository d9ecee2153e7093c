"""Running a factory in the cheapest way that works, whatever it builds; what foreign code did wrong is told in one line."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import blamed_line, describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.arch.libraries import EXTRAS, missing_library
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import Origin
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ckptaudit.arch.network import Refusals

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What a factory returned: the object, the name of the way in which it was built, and what that way noted meanwhile."""

    made: Any
    way: str
    notes: Any


def first_that_works(
    load: Callable[[], Callable[[], object]],
    label: str,
    ways: Callable[[], Iterable[tuple[str, AbstractContextManager[Any]]]],
    home: Path | None = None,
) -> Attempt:
    """Call a factory in one way after the other, until it returns.

    Parameters
    ----------
    load:
        Imports what is needed and returns the factory, which takes no arguments. Called once, outside of any way: a module's
        constants stay as they are for the rest of the process.
    label:
        What the user calls the factory, for messages (``models.py:build``).
    ways:
        Gives names and contexts, the cheapest first; called after ``load``, which decides what is imported. The last one must be the
        plain one: its error is the one that is told.
    home:
        Folder of the user's code, see :func:`~ckptaudit.arch.failures.blamed_line`.

    Raises
    ------
    ArchitectureError
        The factory raised in every way, or tried to download something.
    """
    with isolated(label) as refusals:
        with _failures_told(label, "cannot be imported", refusals, home), output_to_stderr():
            factory = load()
        tried = list(ways())
        for way, context in tried:
            refused_before = len(refusals.targets)
            try:
                with context as notes, output_to_stderr():
                    return Attempt(factory(), way, notes)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # Trying again helps against what a way cannot do; not against exits and missing networks.
                hopeless = isinstance(error, SystemExit) or len(refusals.targets) > refused_before
                if hopeless or way == tried[-1][0]:
                    raise _failure(label, "raised", error, refusals, home) from error
                _log.debug("%s failed on %s: %s", label, way, describe_error(error))
    raise AssertionError("there is always a last way")


def calling_line(is_library: Callable[[str], bool]) -> Origin | None:
    """The innermost line outside of the library that led to the caller of this function's caller."""
    frame = sys._getframe(2)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return None if frame is None else Origin(frame.f_code.co_filename, frame.f_lineno)


@contextmanager
def _failures_told(label: str, what: str, refusals: Refusals, home: Path | None) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, ArchitectureError):
        raise
    except BaseException as error:
        raise _failure(label, what, error, refusals, home) from error


def _failure(label: str, what: str, error: BaseException, refusals: Refusals, home: Path | None) -> ArchitectureError:
    if isinstance(error, ArchitectureError):
        return error
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get(error.name or "")):
        return missing_library(str(error.name), extra)
    where = blamed_line(error, home)
    if refusals.targets:
        # Told whatever was raised in the end: libraries wrap the refusal into errors of their own.
        return ArchitectureError(
            f"{label}: the factory tried to download weights from {refusals.targets[0]}; pass weights=None / pretrained=False{where}"
        )
    if isinstance(error, SystemExit):
        return ArchitectureError(f"{label} called sys.exit({error.code!r}){where}")
    separator = ":" if what == "cannot be imported" else ""
    return ArchitectureError(f"{label} {what}{separator} {describe_error(error)}{where}")


def with_article(noun: str) -> str:
    """``an int``, ``a Net``, ``NoneType``."""
    return noun if noun == "NoneType" else f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
