"""``ckptaudit scan``: the safety and integrity of files alone."""

from __future__ import annotations

import sys
from typing import Any

import click

from ckptaudit.cli._options import max_header_option, outputs_options
from ckptaudit.cli._output import Outputs
from ckptaudit.cli._scanning import BAR, BARS, FORMATS, run_scan


@click.command(short_help="Is a file safe and whole?")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--deep", is_flag=True, help="Look at every value for NaN, not at a sample of each tensor.")
@click.option(
    "--fail-on",
    "bar",
    type=click.Choice(BARS),
    default=BAR,
    show_default=True,
    help="Exit 1 for findings of this severity or worse.",
)
@max_header_option
@outputs_options(FORMATS)
def scan(paths: tuple[str, ...], deep: bool, bar: Any, outputs: Outputs) -> None:
    """Look for code, damage and oddities in files, folders and patterns; nothing is executed and no model is needed.

    \b
    Exit codes: 0 clean · 1 read, with findings · 3 could not be read; of several files the highest.
    """  # noqa: D301
    sys.exit(run_scan(paths, deep, bar, outputs))
