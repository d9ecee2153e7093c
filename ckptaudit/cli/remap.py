"""``ckptaudit remap``: the plan, shown and written down; nothing is changed."""

from __future__ import annotations

import sys
from typing import Any

import click

from ckptaudit.cli._exit_codes import exit_code
from ckptaudit.cli._options import model_side, sides_options
from ckptaudit.cli._output import check_output, emit, render_options

#: ``--emit``: the modules of :mod:`ckptaudit.plan.emit`, named here so that the command line need not import them.
FORMS = ("mmengine", "pre-hook", "python", "timm", "transformers")


@click.command(short_help="Propose the renames and changes that make a checkpoint fit.")
@sides_options
@click.option("--plan", "plan_path", type=click.Path(dir_okay=False), help="Write the plan to this file, for review and `ckptaudit apply`.")
@click.option("--emit", "form", type=click.Choice(FORMS), help="Print code that does the same without ckptaudit.")
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
    plan_path: str | None,
    form: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show what would be renamed and changed so that a checkpoint fits, what stays, and what is dropped; nothing is changed."""
    from ckptaudit.pipeline import audit
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report._plan import render_plan

    build = model_side(arch, against, arch_args, fresh)
    check_output(plan_path, force)
    opened = open_checkpoint(checkpoint, branch=branch)
    outcome = audit(opened, build(opened), intent=intent, branch=branch)
    plan = outcome.plan.named(outcome.checkpoint.path.name, outcome.model.arch, outcome.checkpoint.branch.name)
    if form is not None:
        from ckptaudit.plan.emit import emit as emit_code

        text = emit_code(plan, form)
    else:
        text = render_plan(plan, render_options(None, quiet, verbose))
    if plan_path is not None:
        plan.save(plan_path, force=force)
    emit(text)
    sys.exit(exit_code(outcome))
