"""``ckptaudit remap``: the plan, shown, put to the proof and written down; nothing is changed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckptaudit.cli._exit_codes import COULD_NOT_AUDIT, NOT_FIT, exit_code
from ckptaudit.cli._leaving import say
from ckptaudit.cli._options import model_side, parse_sizes, sides_options
from ckptaudit.cli._output import check_output, emit, render_options
from ckptaudit.cli._proof import input_size_option, models_that_may_have_written

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.pipeline import Audit
    from ckptaudit.plan import Plan
    from ckptaudit.prove import Proof

#: ``--emit``: the modules of :mod:`ckptaudit.plan.emit`, named here so that the command line need not import them.
FORMS = ("mmengine", "pre-hook", "python", "timm", "transformers")
#: ``--adapt``: see :data:`ckptaudit.align.adapting.WAYS`.
WAYS = ("inflate", "interpolate", "fuse")


@click.command(short_help="Propose the renames and changes that make a checkpoint fit.")
@sides_options
@click.option("--source-arch", help="The model that wrote the checkpoint, where known: both are run to prove the plan (implies --verify).")
@click.option("--verify", is_flag=True, help="Put the plan to the proof: undo its arithmetic, run both models, compare statistics.")
@click.option(
    "--verify-with",
    type=click.Path(path_type=Path),
    help="Images to settle what is open, and to compare statistics on.",
)
@input_size_option
@click.option("--adapt", multiple=True, type=click.Choice(WAYS), help="Change tensors of another shape in this way, too; repeatable.")
@click.option(
    "--class-map", type=click.Path(), help="Take rows of the head: YAML or JSON, a list of the file's class for each of the model."
)
@click.option("--plan", "plan_path", type=click.Path(dir_okay=False), help="Write the plan to this file, for review and `ckptaudit apply`.")
@click.option("--emit", "form", type=click.Choice(FORMS), help="Print code that does the same without ckptaudit.")
@click.option("--format", "output_format", type=click.Choice(["json", "terminal"]), default="terminal", help="What to print.")
@click.option("--force", is_flag=True, help="Overwrite an existing plan.")
@click.option("-q", "--quiet", is_flag=True, help="What the plan reaches, alone.")
@click.option("-v", "--verbose", is_flag=True, help="Every rule, step and name, nothing folded.")
def remap(
    checkpoint: str,
    arch: str | None,
    against: str | None,
    arch_args: tuple[str, ...],
    fresh: bool,
    branch: str | None,
    intent: Any,
    source_arch: str | None,
    verify: bool,
    verify_with: Path | None,
    input_size: str | None,
    adapt: tuple[str, ...],
    class_map: str | None,
    plan_path: str | None,
    form: str | None,
    output_format: str,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show what would be renamed and changed so that a checkpoint fits, what stays, and what is dropped; nothing is changed."""
    from ckptaudit.errors import ImagesError, UsageError
    from ckptaudit.pipeline import audit
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report._next import apply_command
    from ckptaudit.report._plan import render_plan, render_written

    build = model_side(arch, against, arch_args, fresh)
    check_output(plan_path, force)
    if form is not None and output_format == "json":
        raise UsageError("--emit prints code, --format json a document: take one of them")
    verify = verify or (source_arch is not None and verify_with is None)
    sizes = parse_sizes(input_size)
    opened = open_checkpoint(checkpoint, branch=branch)
    export = opened.framework == "onnx"  # which is run itself
    wrote, rivals = models_that_may_have_written(opened, source_arch, verify and verify_with is None and not export)
    audited = partial(
        audit,
        opened,
        build(opened),
        intent=intent,
        branch=branch,
        adapt=adapt,
        class_map=_class_map(class_map),
        source_arch=wrote,
        settle=verify,
        input_size=sizes,
    )
    without_images = ""
    try:
        outcome = audited(settle_with=verify_with)
    except ImagesError as error:  # the plan can be shown all the same
        without_images = str(error)
        outcome = audited()
    plan = outcome.plan.named(outcome.checkpoint.path.name, outcome.model.arch, outcome.checkpoint.branch.name)
    proof = None
    if verify or verify_with is not None:
        from ckptaudit.prove import prove_plan

        proof = prove_plan(plan, outcome.checkpoint, outcome.model, source=wrote, rivals=rivals, images=verify_with, input_size=sizes)
    if form is not None:
        text = _code(plan, form, proof)
    elif output_format == "json":
        from ckptaudit.report._remap_json import remap_json

        text = remap_json(plan, outcome.offers, proof)
    else:
        text = render_plan(plan, render_options(None, quiet, verbose), outcome.verdict, outcome.offers, proof, outcome.settled)
    doubtful = proof is not None and proof.against
    code = NOT_FIT if doubtful else exit_code(outcome)
    if proof is not None and _is_missing(proof, verify_with is not None or source_arch is not None, wrote):
        say(f"ckptaudit: the plan was not put to the proof: {proof.reasons[-1]}")
        code = code or COULD_NOT_AUDIT
    elif without_images:  # the models were run instead
        say(f"ckptaudit: no image was looked at: {without_images}")
        code = code or COULD_NOT_AUDIT
    if plan_path is not None:
        plan.save(plan_path, force=force)
        if form is None and output_format == "terminal" and not quiet:
            command = "" if doubtful or _is_of_no_use(outcome) else apply_command(plan_path, checkpoint, outcome.model.graph.framework)
            text += render_written(plan, plan_path, command, render_options(None, quiet, verbose))
    emit(text)
    sys.exit(code)


def _code(plan: Plan, form: str, proof: Proof | None) -> str:
    """The plan as code; standard error says where it was put to the proof, and that speaks against it."""
    from ckptaudit.plan.emit import emit as emit_code
    from ckptaudit.report._proof import proof_lines

    text = emit_code(plan, form)
    if proof is not None and proof.against:
        say(f"ckptaudit: the plan that this code carries out is {proof_lines(proof)[0][2:]}; without --emit it is shown why")
    return text


def _is_of_no_use(outcome: Audit) -> bool:
    """Whether nothing comes of ``apply``, which cannot give a model's own rows either."""
    from ckptaudit.plan.plan import keeps_rows

    return not outcome.plan.steps or outcome.verdict.status == "incompatible" or any(map(keeps_rows, outcome.plan.steps))


def _is_missing(proof: Proof, asked: bool, wrote: Model | None) -> bool:
    """Whether nothing was shown where a way was asked for, or where the model that wrote the file was at hand and could not be run."""
    return not proof.by and proof.statistics is None and (asked or (wrote is not None and proof.could_not_run))


def _class_map(path: str | None) -> object:
    """What the file holds: JSON is YAML, too."""
    if path is None:
        return None
    import yaml

    from ckptaudit.errors import PlanError

    try:
        return yaml.safe_load(Path(path).read_text("utf-8")) or []
    except OSError as error:
        raise PlanError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise PlanError(f"{path}: is no class map ({str(error).splitlines()[0]})") from None
