"""``ckptaudit show``: what a file holds."""

from __future__ import annotations

from pathlib import Path

import click

from ckptaudit.cli._options import output_options
from ckptaudit.cli._output import check_output, emit, render_options
from ckptaudit.errors import UsageError


@click.command(short_help="What does a file hold?")
@click.argument("checkpoint", type=click.Path())
@click.option("--branch", help="Which part of the file to show.")
@click.option("--graph", type=click.Path(dir_okay=False), help="Also write the layer graph: .graphml, .dot or .json.")
@output_options
def show(
    checkpoint: str, branch: str | None, graph: str | None, output_format: str, output: str | None, force: bool, quiet: bool, verbose: bool
) -> None:
    """Show what a file holds: branches, metadata, and the tree of its layers."""
    from ckptaudit.files import write_file
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import render_checkpoint

    check_output(output, force)
    check_output(graph, force)
    if graph is not None and Path(graph).suffix not in (".graphml", ".dot", ".json"):
        raise UsageError(f"--graph {graph}: the name must end in .graphml, .dot or .json")
    opened = open_checkpoint(checkpoint, branch=branch)
    if graph is not None:
        from ckptaudit.graph.export import WRITERS

        write_file(graph, WRITERS[Path(graph).suffix](opened.graph), force=force)
    emit(render_checkpoint(opened, output_format, render_options(output, quiet, verbose)), output, force)
