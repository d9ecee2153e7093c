"""How a command ends before its end: one line for every error, and an exit code that says what happened."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from time import monotonic

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, INTERRUPTED, TERMINATED
from ckptaudit.errors import CkptAuditError
from ckptaudit.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


#: Seconds in which Ctrl-C and SIGTERM are not heard when one of them came; a command takes less to leave, if nothing hangs.
_TIDYING = 3.0


#: Whether the process ends with the command.
_ends = False


def end_with_command() -> None:
    """Say that the process ends with the command: what has made that leave is then not heard again, also when it is left."""
    global _ends  # noqa: PLW0603 -- there is one process
    _ends = True


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Like Ctrl-C, and unlike an exit, it is caught nowhere where models are built."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM leave as Ctrl-C does, so that half-written outputs are taken away, and let neither disturb that by coming again."""
    deaf_until = 0.0

    def leave(number: int, frame: object) -> None:
        nonlocal deaf_until
        now = monotonic()
        if now < deaf_until:
            return
        deaf_until = now + _TIDYING
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {}
    with suppress(ValueError):  # only the main thread may
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, leave)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored behind nohup, say
            before[signal.SIGINT] = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        if not (deaf_until and _ends):
            for number, handler in before.items():
                signal.signal(number, handler)


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
