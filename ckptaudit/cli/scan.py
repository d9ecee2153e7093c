"""``ckptaudit scan``: the safety and integrity of files alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, FIT, NOT_FIT
from ckptaudit.cli._options import max_header_option, outputs_options
from ckptaudit.cli._output import Outputs
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.scanning import Scan


@click.command(short_help="Is a file safe and whole?")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--deep", is_flag=True, help="Look at every value for NaN, not at a sample of each tensor.")
@click.option(
    "--fail-on",
    "bar",
    type=click.Choice(["note", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Exit 1 for findings of this severity or worse.",
)
@max_header_option
@outputs_options(("json", "terminal"))
def scan(paths: tuple[str, ...], deep: bool, bar: Any, outputs: Outputs) -> None:
    """Look for code, damage and oddities in files, folders and patterns; nothing is executed and no model is needed.

    \b
    Exit codes: 0 clean · 1 read, with findings · 3 could not be read; of several files the highest.
    """  # noqa: D301
    from ckptaudit.report._progress import files_bar
    from ckptaudit.report._scan import render_scan
    from ckptaudit.scanning import scan as scan_paths

    with files_bar() as progress:
        found = scan_paths(paths, deep=deep, progress=progress)
    outputs.write(lambda output_format, options: render_scan(found, output_format, options, bar))
    for file in found.files:
        if file.reason:
            click.echo(f"ckptaudit: {printable(f'{file.path}: {file.reason}')}", err=True)
    sys.exit(_exit_code(found, bar))


def _exit_code(found: Scan, bar: Any) -> int:
    if found.count("unreadable"):
        return COULD_NOT_AUDIT
    return NOT_FIT if found.count("findings", bar) else FIT
