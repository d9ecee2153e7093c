"""The command line: arguments, exit codes, and nothing else. One module per verb.

Exit codes: 0 fit for the intent · 1 not fit · 2 wrong usage · 3 could not be audited. An audit that could not run is never 0.
"""

from __future__ import annotations

import gc
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

        plain_scan(given[1:])  # leaves, unless it takes more than that to understand the arguments
    from ckptaudit.cli._commands import commands

    commands(given)
