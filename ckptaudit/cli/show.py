"""``ckptaudit show``: what a file holds."""

from __future__ import annotations

from pathlib import Path

import click

from ckptaudit.cli._options import max_header_option, outputs_options
from ckptaudit.cli._output import Outputs, check_output
from ckptaudit.errors import UsageError
from ckptaudit.report import CHECKPOINT_FORMATS


@click.command(short_help="What does a file hold?")
@click.argument("checkpoint", type=click.Path(readable=False))
@click.option("--branch", help="Which part of the file to show.")
@click.option("--graph", type=click.Path(dir_okay=False), help="Also write the layer graph: .graphml, .dot or .json.")
@max_header_option
@outputs_options(CHECKPOINT_FORMATS)
def show(checkpoint: str, branch: str | None, graph: str | None, outputs: Outputs) -> None:
    """Show what a file holds: branches, metadata, and the tree of its layers."""
    from ckptaudit.files import write_file
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import render_checkpoint

    check_output(graph, outputs.force)
    if graph is not None and Path(graph).suffix not in (".graphml", ".dot", ".json"):
        raise UsageError(f"--graph {graph}: the name must end in .graphml, .dot or .json")
    opened = open_checkpoint(checkpoint, branch=branch)
    if graph is not None:
        from ckptaudit.graph.export import WRITERS

        write_file(graph, WRITERS[Path(graph).suffix](opened.graph), force=outputs.force)
    outputs.write(lambda output_format, options: render_checkpoint(opened, output_format, options))
