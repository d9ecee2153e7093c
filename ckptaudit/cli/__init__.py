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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, by default the one that started the process, and leave with its exit code."""
    gc.disable()  # one command, one process: what is garbage goes with it
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["scan"]:
        from ckptaudit.cli._scanning import plain_scan

        code = plain_scan(given[1:])
        if code is not None:
            if arguments is None:
                # All is printed, and nothing is to be tidied up: to take the interpreter apart takes as long as to scan ten files.
                os._exit(code)
            sys.exit(code)
    from ckptaudit.cli._commands import commands

    commands(given)
