"""All verbs as one command of click, each loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click

from ckptaudit._version import __version__
from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT
from ckptaudit.cli._leaving import code_of, say, terminable

#: In the order in which people meet them; each is a command of the same name in a module of its own.
VERBS = ("diff", "remap", "apply", "probe", "contract", "show", "scan", "identify", "spec", "lock", "check", "cache")


class _Commands(click.Group):
    """Commands that are loaded when they are asked for, and one line for every error on purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"ckptaudit.cli.{cmd_name}"), cmd_name)
        return command

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **more)  # which prints what --help and --version ask for
        except BrokenPipeError:
            raise
        except OSError as error:
            say(f"ckptaudit: standard output could not be written ({error.strerror})")
            raise SystemExit(COULD_NOT_AUDIT) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with terminable():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            ctx.exit(code_of(error))


@click.group(
    cls=_Commands,
    commands=dict.fromkeys(VERBS, click.Command(None)),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Audit a checkpoint against a freshly built model before anything is restored.

    Files are read without executing them and without loading their tensors.

    \b
    Exit codes: 0 fit · 1 not fit · 2 wrong usage · 3 could not be audited.
    """  # noqa: D301
