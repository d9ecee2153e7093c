"""``ckptaudit apply``: carry out a plan into a new file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptaudit.cli._output import check_output, emit
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.plan import Plan


@click.command(short_help="Carry out a plan: write the restored checkpoint.")
@click.argument("plan", type=click.Path(readable=False))
@click.argument("checkpoint", type=click.Path(readable=False))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="The file to write: .safetensors, .pth, .pt or .weights.h5."
)
@click.option("--like", type=click.Path(dir_okay=False), help="For .weights.h5: what model.save_weights wrote of the fresh Keras model.")
@click.option("--verify", is_flag=True, help="Carry out every step on the real values and undo it, before anything is written.")
@click.option("--allow-ambiguous", is_flag=True, help="Carry out steps that are not sure, too.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def apply(plan: str, checkpoint: str, output: str, like: str | None, verify: bool, allow_ambiguous: bool, force: bool) -> None:
    """Write what a plan makes of a checkpoint into a new file, a few tensors at a time; the checkpoint is only read."""
    from ckptaudit.cli._leaving import say
    from ckptaudit.graph.kinds import DERIVED_BUFFERS
    from ckptaudit.graph.names import leaf
    from ckptaudit.plan import Plan
    from ckptaudit.plan.writing import check_suffix, write_restored
    from ckptaudit.report._progress import progress_bar
    from ckptaudit.report._words import nbytes, plural

    check_suffix(output, like)
    check_output(output, force)
    loaded = Plan.load(plan)
    told = _verified(loaded, checkpoint) if verify else ""
    with progress_bar() as progress:
        written = write_restored(loaded, checkpoint, output, like=like, force=force, allow_ambiguous=allow_ambiguous, progress=progress)
    for remark in written.remarks:
        say(f"ckptaudit: {printable(remark)}; compare the output with the model: `ckptaudit diff`")
    kept = sum(leaf(name) not in DERIVED_BUFFERS for name in loaded.initial)
    if kept:
        told += f"; {plural(kept, 'tensor')} of the model {'keeps' if kept == 1 else 'keep'} the initial values"
    emit(f"{printable(str(written.path))}: {plural(written.tensors, 'tensor')}, {nbytes(written.nbytes)}{told}\n")


def _verified(plan: Plan, checkpoint: str) -> str:
    from ckptaudit.errors import PlanError
    from ckptaudit.plan.applying import open_for, refuse_other_source
    from ckptaudit.prove.arithmetic import check_arithmetic
    from ckptaudit.report._words import plural

    opened = open_for(plan, checkpoint)
    refuse_other_source(plan, list(opened.graph), checkpoint, check=True)
    found = check_arithmetic(plan, opened, None)
    if found.failed:
        raise PlanError(f"{found.failed[0]}: the step cannot be carried out and undone on these values; nothing was written")
    lossy = f", {len(found.lossy)} cannot be undone" if found.lossy else ""
    return f"; {plural(found.restored, 'step')} undone bit for bit{lossy}"
