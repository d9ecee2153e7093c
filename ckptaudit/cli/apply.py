"""``ckptaudit apply``: carry out a plan into a new file."""

from __future__ import annotations

import click

from ckptaudit.cli._output import check_output, emit
from ckptaudit.text import printable


@click.command(short_help="Carry out a plan: write the restored checkpoint.")
@click.argument("plan", type=click.Path())
@click.argument("checkpoint", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The file to write; a .safetensors.")
@click.option("--allow-ambiguous", is_flag=True, help="Carry out steps that are not sure, too.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def apply(plan: str, checkpoint: str, output: str, allow_ambiguous: bool, force: bool) -> None:
    """Write what a plan makes of a checkpoint into a new file, one tensor at a time; the checkpoint is only read."""
    from ckptaudit.plan import Plan
    from ckptaudit.plan.writing import check_suffix, write_restored
    from ckptaudit.report._progress import progress_bar
    from ckptaudit.report._words import nbytes, plural

    check_suffix(output)
    check_output(output, force)
    loaded = Plan.load(plan)
    with progress_bar() as progress:
        written = write_restored(loaded, checkpoint, output, force=force, allow_ambiguous=allow_ambiguous, progress=progress)
    emit(f"{printable(str(written.path))}: {plural(written.tensors, 'tensor')}, {nbytes(written.nbytes)}\n")
