"""What ``ckptaudit scan`` does once its arguments are understood."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, FIT, NOT_FIT
from ckptaudit.cli._leaving import code_of, say, terminable
from ckptaudit.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptaudit.cli._output import Outputs
    from ckptaudit.rules.finding import Severity

#: The formats of ``--format``, and the severities of ``--fail-on`` with the one that counts unless told otherwise.
FORMATS, BARS, BAR = ("json", "terminal"), ("note", "warning", "error"), "warning"

_FLAGS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose", "--deep": "deep"}


def run_scan(paths: Sequence[str], deep: bool, bar: Severity, outputs: Outputs) -> int:
    """Scan, print and write what was found; the exit code."""
    from ckptaudit.report._progress import files_bar
    from ckptaudit.report._scan import render_scan
    from ckptaudit.scanning.scan import scan

    # Whatever imports numpy from here on multiplies no matrices, and starting a thread for each core takes longer than a scan.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with files_bar() as progress:
        found = scan(paths, deep=deep, progress=progress)
    outputs.write(lambda output_format, options: render_scan(found, output_format, options, bar))
    told = len(found.files) > 1 and ("terminal", None) in outputs.targets and _at_one_terminal()
    for file in found.files:
        if file.reason and not told:
            say(f"ckptaudit: {printable(f'{file.path}: {file.reason}')}")
    if found.count("unreadable"):
        return COULD_NOT_AUDIT
    return NOT_FIT if found.count("findings", bar) else FIT


def _at_one_terminal() -> bool:
    """Whether who reads standard output reads standard error between its lines."""
    streams = (sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.path.sameopenfile(*(stream.fileno() for stream in streams))


def plain_scan(arguments: Sequence[str]) -> None:
    """Scan and leave, where the arguments are no more than paths and the flags that most people use; return where they are others.

    The command as such is :func:`ckptaudit.cli.scan.scan`; importing click to understand its arguments takes longer than most scans.
    """
    understood = plain_arguments(arguments)
    if understood is None:
        return
    from ckptaudit.cli._output import Outputs

    paths, chosen, bar, flags = understood
    try:
        with terminable():
            outputs = Outputs(((chosen, None),), False, "quiet" in flags, "verbose" in flags)
            code = run_scan(paths, "deep" in flags, bar, outputs)
    except (Exception, KeyboardInterrupt) as error:
        code = code_of(error)
    sys.exit(code)


def plain_arguments(arguments: Sequence[str]) -> tuple[list[str], str, Severity, set[str]] | None:
    """Paths, format, bar and flags as click would understand them, or None where it takes click to tell."""
    paths: list[str] = []
    chosen, bar = "", BAR
    flags: set[str] = set()
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            paths += left
        elif argument in _FLAGS:
            flags.add(_FLAGS[argument])
        elif argument == "--format" and not chosen:
            chosen = next(left, "")
        elif argument == "--fail-on":
            bar = next(left, "")
        elif argument.startswith("-"):
            return None
        else:
            paths.append(argument)
    if not all(paths) or not paths or chosen not in ("", *FORMATS) or bar not in BARS:
        return None
    return paths, chosen or "terminal", bar, flags  # type: ignore[return-value]
