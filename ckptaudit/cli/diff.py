"""``ckptaudit diff``: the main job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ckptaudit.cli._exit_codes import BARS, exit_code
from ckptaudit.cli._options import model_side, outputs_options, sides_options
from ckptaudit.cli._output import Outputs
from ckptaudit.report import formats

if TYPE_CHECKING:
    from ckptaudit.verdict import Bar


@click.command(short_help="Does a checkpoint fit a model, and why not?")
@sides_options
@click.option("--fail-on", type=click.Choice(BARS), help="Exit 1 from this verdict on, whatever the intent.")
@click.option("--deep", is_flag=True, help="Scan every value for NaN, not a sample of each tensor.")
@outputs_options(formats())
def diff(
    checkpoint: str,
    arch: str | None,
    against: str | None,
    arch_args: tuple[str, ...],
    fresh: bool,
    branch: str | None,
    intent: Any,
    fail_on: Bar | None,
    deep: bool,
    outputs: Outputs,
) -> None:
    """Lay a checkpoint beside a freshly built model and say what does not fit, and why."""
    from ckptaudit.errors import UsageError
    from ckptaudit.pipeline import audit, model_of_twin
    from ckptaudit.read import open_checkpoint
    from ckptaudit.records import replace
    from ckptaudit.report import render_audit

    build = model_side(arch, against, arch_args, fresh, twin=True)
    opened = open_checkpoint(checkpoint, branch=branch)
    if arch is not None and against is not None and opened.framework != "onnx":
        raise UsageError("give either --arch or --against, not both: values are compared layer by layer for ONNX files alone")
    model = model_of_twin(opened, against) if against is not None and arch is None else None
    twin = against if arch is not None or model is not None else None
    outcome = audit(opened, model or build(opened), intent=intent, branch=branch, deep=deep, twin=twin)
    outputs.write(lambda output_format, options: render_audit(outcome, output_format, replace(options, fail_on=fail_on)))
    sys.exit(exit_code(outcome, fail_on))
