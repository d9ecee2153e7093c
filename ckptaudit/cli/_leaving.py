"""How a command ends before its end: one line for every error, and an exit code that says what happened."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, INTERRUPTED, TERMINATED
from ckptaudit.errors import CkptAuditError
from ckptaudit.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Like Ctrl-C, and unlike an exit, it is caught nowhere where models are built."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM leave as Ctrl-C does, so that half-written outputs are taken away."""

    def leave(*_: object) -> None:
        raise Terminated

    set_here = True
    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # only the main thread may
        set_here = False
    try:
        yield
    finally:
        if set_here:
            signal.signal(signal.SIGTERM, before)


def code_of(error: BaseException) -> int:
    """The exit code for an error; what it was is said on standard error, in one line."""
    if isinstance(error, CkptAuditError):
        say(f"ckptaudit: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    # Python would exit with 1, which here means "audited, and not fit".
    if os.environ.get("CKPTAUDIT_DEBUG"):
        raise error
    reason = printable(f"{type(error).__name__}: {error}", 300)
    say(f"ckptaudit: internal error, nothing was audited ({reason}); CKPTAUDIT_DEBUG=1 shows the traceback")
    return COULD_NOT_AUDIT


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)
