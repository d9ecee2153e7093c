"""The command line: arguments, exit codes, and nothing else. One module per verb.

Exit codes: 0 fit for the intent · 1 not fit · 2 wrong usage · 3 could not be audited. An audit that could not run is never 0.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ckptaudit._version import __version__
from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, INTERRUPTED, TERMINATED
from ckptaudit.errors import CkptAuditError
from ckptaudit.garbage import collector_paused
from ckptaudit.text import printable

#: In the order in which people meet them; each is a command of the same name in a module of its own.
VERBS = ("diff", "remap", "apply", "probe", "contract", "show", "scan", "identify", "spec", "lock", "check", "cache")


class _Terminated(KeyboardInterrupt):
    """SIGTERM came. Like Ctrl-C, and unlike an exit, it is caught nowhere where models are built."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM leave as Ctrl-C does, so that half-written outputs are taken away."""

    def leave(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Commands(click.Group):
    """Commands that are loaded when they are asked for, and one line for every error on purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with collector_paused(), _terminable():  # one command, one process: what is garbage goes with it
                return super().invoke(ctx)
        except CkptAuditError as error:
            click.echo(f"ckptaudit: {error}", err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except _Terminated:
            ctx.exit(TERMINATED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as error:
            # Python would exit with 1, which here means "audited, and not fit".
            if os.environ.get("CKPTAUDIT_DEBUG"):
                raise
            reason = printable(f"{type(error).__name__}: {error}", 300)
            click.echo(f"ckptaudit: internal error, nothing was audited ({reason}); CKPTAUDIT_DEBUG=1 shows the traceback", err=True)
            ctx.exit(COULD_NOT_AUDIT)


@click.group(
    cls=_Commands,
    commands=dict.fromkeys(VERBS, click.Command(None)),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Audit a checkpoint against a freshly built model before anything is restored.

    Files are read without executing them and without loading their tensors.

    \b
    Exit codes: 0 fit · 1 not fit · 2 wrong usage · 3 could not be audited.
    """  # noqa: D301
