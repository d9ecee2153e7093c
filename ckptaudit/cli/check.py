"""``ckptaudit check``: do the models as they are now still restore what was released."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptaudit.cli._exit_codes import BARS, COULD_NOT_AUDIT, FIT, NOT_FIT
from ckptaudit.cli._options import outputs_options
from ckptaudit.cli._output import Outputs
from ckptaudit.report import formats
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.lock.changes import Check
    from ckptaudit.report import Options
    from ckptaudit.verdict import Bar


@click.command(short_help="Do the models still restore the checkpoints in the lock?")
@click.option("--config", type=click.Path(dir_okay=False), help="The pyproject.toml; by default the nearest one with [tool.ckptaudit].")
@click.option("--base", metavar="REV", help="Check this git revision too, and report only what changed since.")
@click.option("--fail-on", type=click.Choice(BARS), help="Exit 1 from this verdict on; by default `fail-on` of the configuration.")
@outputs_options(formats())
def check(config: str | None, base: str | None, fail_on: Bar | None, outputs: Outputs) -> None:
    """Build the models as the code is now and hold them against ckptaudit.lock; no checkpoint is needed.

    \b
    Exit codes: 0 every contract holds · 1 one is broken · 3 one could not be audited, or there is no usable lock.
    With --base: 1 only for what the change since REV broke.
    """  # noqa: D301
    from ckptaudit.lock.changes import check_of
    from ckptaudit.lock.checking import check_project
    from ckptaudit.lock.contracts import find_configuration, load_project
    from ckptaudit.lock.revisions import checking_base

    project = load_project(Path(config) if config else find_configuration(Path.cwd()))
    if base is None:
        outcome = check_of(check_project(project, fail_on=fail_on))
    else:
        with checking_base(project, base, fail_on) as running:
            checked = check_project(project, fail_on=fail_on)
            outcome = check_of(checked, running.result())
    if outcome.base is not None and outcome.base.error:
        click.echo(f"ckptaudit: {base} could not be checked, so everything counts as new ({outcome.base.error})", err=True)
    for name in outcome.withdrawn:
        click.echo(printable(f"ckptaudit: the contract {name!r} of {base} is gone"), err=True)
    outputs.write(lambda output_format, options: _render(outcome, output_format, options))
    if any(result.checked.audit is None for result in outcome.results):
        sys.exit(COULD_NOT_AUDIT)
    sys.exit(FIT if all(result.holds for result in outcome.results) else NOT_FIT)


def _render(outcome: Check, output_format: str, options: Options) -> str:
    from ckptaudit.report import Entry, render_audits
    from ckptaudit.report.json import dump

    if output_format == "json":
        return dump(outcome.to_json())
    return render_audits(
        [
            Entry(
                result.checked.contract.name,
                result.checked.audit,
                error=result.checked.error,
                location=result.checked.location,
                remark=result.remark,
                holds=result.holds,
            )
            for result in outcome.results
        ],
        output_format,
        options,
    )
