"""``ckptaudit apply``: carry out a plan into a new file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, NOT_FIT
from ckptaudit.cli._options import arch_arg_option, model_side, parse_sizes
from ckptaudit.cli._output import check_output, emit
from ckptaudit.cli._proof import input_size_option, models_that_may_have_written
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint

#: How many tensors are named that a plan does not set.
_NAMED = 3


@click.command(short_help="Carry out a plan: write the restored checkpoint.")
@click.argument("plan", type=click.Path(readable=False))
@click.argument("checkpoint", type=click.Path(readable=False))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="The file to write: .safetensors, .pth, .pt or .weights.h5."
)
@click.option("--like", type=click.Path(dir_okay=False), help="For .weights.h5: what model.save_weights wrote of the fresh Keras model.")
@click.option("--verify", is_flag=True, help="Carry out every step on the real values and undo it, before anything is written.")
@click.option("--arch", help="The model that the plan restores: it is run beside the one that wrote the checkpoint (implies --verify).")
@arch_arg_option
@click.option("--source-arch", help="The model that wrote the checkpoint, where the file does not show it; goes with --arch.")
@click.option("--verify-with", type=click.Path(path_type=Path), help="Images to compare BatchNorm statistics on instead; goes with --arch.")
@input_size_option
@click.option("--allow-ambiguous", is_flag=True, help="Carry out steps that are not sure, too.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def apply(
    plan: str,
    checkpoint: str,
    output: str,
    like: str | None,
    verify: bool,
    arch: str | None,
    arch_args: tuple[str, ...],
    source_arch: str | None,
    verify_with: Path | None,
    input_size: str | None,
    allow_ambiguous: bool,
    force: bool,
) -> None:
    """Write what a plan makes of a checkpoint into a new file, a few tensors at a time; the checkpoint is only read."""
    from ckptaudit.cli._leaving import say
    from ckptaudit.errors import UsageError
    from ckptaudit.graph.kinds import DERIVED_BUFFERS
    from ckptaudit.graph.names import leaf
    from ckptaudit.plan import Plan
    from ckptaudit.plan.applying import open_for, refuse_ambiguous, refuse_other_source
    from ckptaudit.plan.writing import check_suffix, write_restored
    from ckptaudit.report._progress import progress_bar
    from ckptaudit.report._words import nbytes, plural

    check_suffix(output, like)
    check_output(output, force)
    if arch is None and (arch_args or source_arch or verify_with or input_size):
        raise UsageError("--arch-arg, --source-arch, --verify-with and --input-size go with --arch, the model that the plan restores")
    build, sizes = model_side(arch, None, arch_args, fresh=False), parse_sizes(input_size)
    loaded, told = Plan.load(plan), ""
    if verify or arch is not None:
        opened = open_for(loaded, checkpoint)
        refuse_ambiguous(loaded, allow_ambiguous)
        refuse_other_source(loaded, list(opened.graph), checkpoint, check=True)
        told = _undone(loaded, opened) if arch is None else _proved(loaded, opened, build(opened), source_arch, verify_with, sizes)
    with progress_bar() as progress:
        written = write_restored(loaded, checkpoint, output, like=like, force=force, allow_ambiguous=allow_ambiguous, progress=progress)
    for remark in written.remarks:
        say(f"ckptaudit: {printable(remark)}; compare the output with the model: `ckptaudit diff`")
    kept = sum(leaf(name) not in DERIVED_BUFFERS for name in loaded.initial)
    if kept:
        told += f"; {plural(kept, 'tensor')} of the model {'keeps' if kept == 1 else 'keep'} the initial values"
    emit(f"{printable(str(written.path))}: {plural(written.tensors, 'tensor')}, {nbytes(written.nbytes)}{told}\n")


def _undone(plan: Plan, checkpoint: Checkpoint) -> str:
    """Undo the plan's arithmetic, and say so; raise PlanError where that cannot be done."""
    from ckptaudit.errors import PlanError
    from ckptaudit.prove.arithmetic import check_arithmetic
    from ckptaudit.report._words import plural

    found = check_arithmetic(plan, checkpoint, None)
    if found.failed:
        raise PlanError(f"{found.failed[0]}: the step cannot be carried out and undone on these values; nothing was written")
    lossy = f", {len(found.lossy)} cannot be undone" if found.lossy else ""
    return f"; {plural(found.restored, 'step')} undone bit for bit{lossy}"


def _proved(
    plan: Plan, checkpoint: Checkpoint, model: Model, source_arch: str | None, images: Path | None, input_size: tuple[int, ...] | None
) -> str:
    """Put the plan to the proof on the model itself, and say so; leave where it does not hold, or nothing could be shown."""
    from ckptaudit.cli._leaving import say
    from ckptaudit.errors import PlanError
    from ckptaudit.graph.kinds import DERIVED_BUFFERS
    from ckptaudit.graph.names import leaf
    from ckptaudit.plan.fingerprint import fingerprint
    from ckptaudit.prove import prove_plan
    from ckptaudit.report._proof import proof_lines
    from ckptaudit.report._words import plural

    if plan.target is not None and plan.target.fingerprint != fingerprint(model.graph):
        raise PlanError(f"the plan was made for another model than {model.arch}: names, shapes or dtypes differ")
    wrote, rivals = models_that_may_have_written(checkpoint, source_arch, guess=images is None and checkpoint.framework != "onnx")
    proof = prove_plan(plan, checkpoint, model, source=wrote, rivals=rivals, images=images, input_size=input_size)
    answer, *details = proof_lines(proof)
    if proof.against:
        set_by_plan = {step.target for step in plan.steps}
        unset = [name for name in model.graph.tensors if name not in set_by_plan and leaf(name) not in DERIVED_BUFFERS]
        if unset:
            few = ", ".join(map(printable, unset[:_NAMED])) + (" …" if len(unset) > _NAMED else "")
            details.append(f"  the plan leaves {plural(len(unset), 'tensor')} of the model as they were: {few}")
        emit("\n".join((f"{answer}; nothing was written", *details)) + "\n")
        sys.exit(NOT_FIT)
    if proof.status == "not proved":
        say(f"ckptaudit: the plan was not put to the proof, and nothing was written: {proof.reasons[-1]}")
        sys.exit(COULD_NOT_AUDIT)
    return f"; {answer[2:]}"
