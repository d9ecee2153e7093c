"""The command line: arguments, exit codes, and nothing else. One module per verb.

Exit codes: 0 fit for the intent · 1 not fit · 2 wrong usage · 3 could not be audited. An audit that could not run is never 0.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


#: Objects after which the garbage collector looks for the first time: little of what one command makes is garbage before it ends.
_PATIENCE = 50_000
#: What may have something to tidy up at the end of the process.
_TIDYING = ("coverage", "torch", "tensorflow", "keras", "jax", "onnxruntime", "matplotlib")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, by default the one that started the process, and raise ``SystemExit`` with its exit code."""
    _run(list(sys.argv[1:] if arguments is None else arguments))


def program() -> None:
    """What the installed command is: :func:`main` in a process of its own, which ends with it."""
    from ckptaudit.cli._leaving import end_with_command

    gc.set_threshold(_PATIENCE)
    end_with_command()
    try:
        main()
    except SystemExit as ended:
        watched = sys.gettrace() is not None or sys.getprofile() is not None  # by who wants to tell of it at the end
        if isinstance(ended.code, int) and not watched and sys.modules.keys().isdisjoint(_TIDYING):
            _leave(ended.code)
        raise


def _run(given: list[str]) -> None:
    if given[:1] == ["scan"]:
        from ckptaudit.cli._scanning import plain_scan

        plain_scan(given[1:])  # leaves, unless it takes more than that to understand the arguments
    from ckptaudit.cli._commands import commands

    commands(given)


def _leave(code: int) -> None:
    """End the process at once: to take the interpreter apart takes as long as to scan ten files, or a tenth of a small audit.

    Return where something could not be printed; the interpreter tells of it.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code)
