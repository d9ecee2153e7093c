"""``ckptaudit identify``: which architecture a file holds."""

from __future__ import annotations

import sys
from functools import partial

import click

from ckptaudit.cli._exit_codes import FIT, NOT_FIT
from ckptaudit.cli._options import outputs_options
from ckptaudit.cli._output import Outputs

#: ``--format``: the forms of :mod:`ckptaudit.report._identification`.
FORMATS = ("json", "terminal")


@click.command(short_help="Which architecture does a file hold?")
@click.argument("checkpoint", type=click.Path(readable=False))
@click.option("--branch", help="Which part of the file to look at (`ckptaudit show` lists them).")
@outputs_options(FORMATS)
def identify(checkpoint: str, branch: str | None, outputs: Outputs) -> None:
    """Rank the published architectures that a file may hold, by names and shapes; exit with 1 when it is none that is known."""
    from ckptaudit.pipeline import identify as identify_checkpoint
    from ckptaudit.pipeline import is_comparable
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report._identification import render_identification

    opened = open_checkpoint(checkpoint, branch=branch)
    found = identify_checkpoint(opened)
    comparable = partial(is_comparable, opened)
    outputs.write(lambda output_format, options: render_identification(opened, found, output_format, options, comparable))
    sys.exit(NOT_FIT if found.certainty == "unknown" else FIT)
