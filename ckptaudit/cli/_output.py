"""Where output goes: printed, or written whole and never over an existing file unasked."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ckptaudit.report import Options


def render_options(output: str | None, quiet: bool, verbose: bool) -> Options:
    """How to render for where the output goes: colours and the width of the terminal only at a terminal."""
    from ckptaudit.report import Options

    at_terminal = output is None and sys.stdout.isatty()
    color = at_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((80, 24)).columns if at_terminal or "COLUMNS" in os.environ else 80
    return Options(verbose=verbose, quiet=quiet, color=color, width=max(40, min(width, 120)))


def check_output(output: str | None, force: bool) -> None:
    """Say that an output exists before minutes of work, not after."""
    from ckptaudit.errors import OutputError
    from ckptaudit.files import is_stream

    if output is not None and not force and os.path.lexists(output) and not is_stream(output):
        raise OutputError(f"{output}: exists already; --force overwrites it")


def emit(text: str, output: str | None = None, force: bool = False) -> None:
    """Print ``text``, or write it to the file ``output``."""
    if output is not None:
        from ckptaudit.files import write_file

        write_file(output, text, force=force)
        return
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        # `| head`: what was wanted has been read. The exit code still tells the verdict.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
