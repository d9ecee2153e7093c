"""The command line: arguments, exit codes, and nothing else.

Exit codes: 0 fit for the intent · 1 not fit · 2 wrong usage · 3 could not be audited. An audit that could not run is never 0.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckptaudit._version import __version__
from ckptaudit.errors import CkptAuditError, UsageError
from ckptaudit.garbage import collector_paused
from ckptaudit.report import formats
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit
    from ckptaudit.report import Options

FIT, NOT_FIT, COULD_NOT_AUDIT, INTERRUPTED = 0, 1, 3, 130

#: ``--fail-on``: the verdict from which on the exit code is 1; without it, whatever does not serve the intent.
_BARS = ("remappable", "partial", "incompatible", "never")
#: ``--emit``: the modules of :mod:`ckptaudit.plan.emit`, named here so that the command line need not import them.
_FORMS = ("mmengine", "pre-hook", "python", "timm", "transformers")


class _Commands(click.Group):
    """Commands in the order in which people meet them, and one line for every error on purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with collector_paused():  # one command, one process: what is garbage goes with it
                return super().invoke(ctx)
        except CkptAuditError as error:
            click.echo(f"ckptaudit: {error}", err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as error:
            # Python would exit with 1, which here means "audited, and not fit".
            if os.environ.get("CKPTAUDIT_DEBUG"):
                raise
            reason = printable(f"{type(error).__name__}: {error}", 300)
            click.echo(f"ckptaudit: internal error, nothing was audited ({reason}); CKPTAUDIT_DEBUG=1 shows the traceback", err=True)
            ctx.exit(COULD_NOT_AUDIT)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Audit a checkpoint against a freshly built model before anything is restored.

    Files are read without executing them and without loading their tensors.

    \b
    Exit codes: 0 fit · 1 not fit · 2 wrong usage · 3 could not be audited.
    """  # noqa: D301


def _output_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--format", "output_format", type=click.Choice(formats()), default="terminal", show_default=True, help="What to print."
            ),
            click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file instead of printing."),
            click.option("--force", is_flag=True, help="Overwrite existing output files."),
            click.option("-q", "--quiet", is_flag=True, help="The diagnosis alone."),
            click.option("-v", "--verbose", is_flag=True, help="Every name, nothing folded."),
        )
    ):
        command = option(command)
    return command


@main.command(short_help="Does a checkpoint fit a model, and why not?")
@click.argument("checkpoint", type=click.Path())
@click.option("--arch", help="torchvision name, package.module:factory, or file.py:factory.")
@click.option("--against", type=click.Path(), help="Another checkpoint, or a saved spec, to compare with.")
@click.option("--arch-arg", "arch_args", multiple=True, metavar="KEY=VALUE", help="Argument for the model's builder; repeatable.")
@click.option("--branch", help="Which part of the file to audit (`ckptaudit show` lists them).")
@click.option(
    "--for",
    "intent",
    type=click.Choice(["eval", "finetune", "resume"]),
    default="eval",
    show_default=True,
    help="What the checkpoint is wanted for.",
)
@click.option("--fail-on", type=click.Choice(_BARS), help="Exit 1 from this verdict on, whatever the intent.")
@click.option("--deep", is_flag=True, help="Scan every value for NaN, not a sample of each tensor.")
@_output_options
def diff(
    checkpoint: str,
    arch: str | None,
    against: str | None,
    arch_args: tuple[str, ...],
    branch: str | None,
    intent: Any,
    fail_on: str | None,
    deep: bool,
    output_format: str,
    output: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Lay a checkpoint beside a freshly built model and say what does not fit, and why."""
    from ckptaudit.arch import parse_argument
    from ckptaudit.pipeline import audit, load_other
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import render_audit

    if (arch is None) == (against is None):
        raise UsageError("give either --arch or --against")
    if against is not None and arch_args:
        raise UsageError("--arch-arg goes with --arch")
    arguments = dict(parse_argument(text) for text in arch_args)
    _check_output(output, force)
    opened = open_checkpoint(checkpoint, branch=branch)  # before the model is built: a bad file is told at once
    outcome = audit(opened, arch or load_other(str(against)), arguments=arguments, intent=intent, branch=branch, deep=deep)
    _emit(render_audit(outcome, output_format, _options(output, quiet, verbose)), output, force)
    sys.exit(_exit_code(outcome, fail_on))


@main.command(short_help="Propose the renames and changes that make a checkpoint fit.")
@click.argument("checkpoint", type=click.Path())
@click.option("--arch", help="torchvision name, package.module:factory, or file.py:factory.")
@click.option("--against", type=click.Path(), help="Another checkpoint, or a saved spec, to remap to.")
@click.option("--arch-arg", "arch_args", multiple=True, metavar="KEY=VALUE", help="Argument for the model's builder; repeatable.")
@click.option("--branch", help="Which part of the file to remap (`ckptaudit show` lists them).")
@click.option(
    "--for",
    "intent",
    type=click.Choice(["eval", "finetune", "resume"]),
    default="eval",
    show_default=True,
    help="What the checkpoint is wanted for.",
)
@click.option("--plan", "plan_path", type=click.Path(dir_okay=False), help="Write the plan to this file, for review and `ckptaudit apply`.")
@click.option("--emit", "form", type=click.Choice(_FORMS), help="Print code that does the same without ckptaudit.")
@click.option("--force", is_flag=True, help="Overwrite an existing plan.")
@click.option("-q", "--quiet", is_flag=True, help="What the plan reaches, alone.")
@click.option("-v", "--verbose", is_flag=True, help="Every rule, step and name, nothing folded.")
def remap(
    checkpoint: str,
    arch: str | None,
    against: str | None,
    arch_args: tuple[str, ...],
    branch: str | None,
    intent: Any,
    plan_path: str | None,
    form: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show what would be renamed and changed so that a checkpoint fits, what stays, and what is dropped; nothing is changed."""
    from ckptaudit.arch import parse_argument
    from ckptaudit.pipeline import audit, load_other
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report._plan import render_plan

    if (arch is None) == (against is None):
        raise UsageError("give either --arch or --against")
    if against is not None and arch_args:
        raise UsageError("--arch-arg goes with --arch")
    arguments = dict(parse_argument(text) for text in arch_args)
    _check_output(plan_path, force)
    opened = open_checkpoint(checkpoint, branch=branch)  # before the model is built: a bad file is told at once
    outcome = audit(opened, arch or load_other(str(against)), arguments=arguments, intent=intent, branch=branch)
    plan = outcome.plan.named(outcome.checkpoint.path.name, outcome.model.arch, outcome.checkpoint.branch.name)
    if form is not None:
        from ckptaudit.plan.emit import emit

        text = emit(plan, form)
    else:
        text = render_plan(plan, _options(None, quiet, verbose))
    if plan_path is not None:
        plan.save(plan_path, force=force)
    _emit(text, None, force)
    sys.exit(_exit_code(outcome, None))


@main.command(short_help="Carry out a plan: write the restored checkpoint.")
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
    _check_output(output, force)
    loaded = Plan.load(plan)
    with progress_bar() as progress:
        written = write_restored(loaded, checkpoint, output, force=force, allow_ambiguous=allow_ambiguous, progress=progress)
    _emit(f"{printable(str(written.path))}: {plural(written.tensors, 'tensor')}, {nbytes(written.nbytes)}\n", None, force)


@main.command(short_help="What does a file hold?")
@click.argument("checkpoint", type=click.Path())
@click.option("--branch", help="Which part of the file to show.")
@click.option("--graph", type=click.Path(dir_okay=False), help="Also write the layer graph: .graphml, .dot or .json.")
@_output_options
def show(
    checkpoint: str, branch: str | None, graph: str | None, output_format: str, output: str | None, force: bool, quiet: bool, verbose: bool
) -> None:
    """Show what a file holds: branches, metadata, and the tree of its layers."""
    from ckptaudit.files import write_file
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import render_checkpoint

    _check_output(output, force)
    _check_output(graph, force)
    if graph is not None and Path(graph).suffix not in (".graphml", ".dot", ".json"):
        raise UsageError(f"--graph {graph}: the name must end in .graphml, .dot or .json")
    opened = open_checkpoint(checkpoint, branch=branch)
    if graph is not None:
        from ckptaudit.graph.export import WRITERS

        write_file(graph, WRITERS[Path(graph).suffix](opened.graph), force=force)
    _emit(render_checkpoint(opened, output_format, _options(output, quiet, verbose)), output, force)


@main.command(short_help="Write down a model for a later diff --against.")
@click.argument("arch")
@click.option("--arch-arg", "arch_args", multiple=True, metavar="KEY=VALUE", help="Argument for the model's builder; repeatable.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file instead of printing.")
@click.option("--trace", is_flag=True, help="Find out which layer feeds which, by one pass without values.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def spec(arch: str, arch_args: tuple[str, ...], output: str | None, trace: bool, force: bool) -> None:
    """Write names, shapes and attributes of a model as it is built now, for a later `diff --against`."""
    from ckptaudit.arch import build_model, parse_argument
    from ckptaudit.arch.spec import spec_text

    _check_output(output, force)
    _emit(spec_text(build_model(arch, dict(parse_argument(text) for text in arch_args), trace=trace)), output, force)


def _exit_code(outcome: Audit, fail_on: str | None) -> int:
    from ckptaudit.rules.finding import STATUSES

    if fail_on == "never":
        return FIT
    if fail_on is not None:
        return NOT_FIT if STATUSES.index(outcome.verdict.status) >= STATUSES.index(fail_on) else FIT
    return FIT if outcome.verdict.fit else NOT_FIT


def _options(output: str | None, quiet: bool, verbose: bool) -> Options:
    from ckptaudit.report import Options

    at_terminal = output is None and sys.stdout.isatty()
    color = at_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((80, 24)).columns if at_terminal or "COLUMNS" in os.environ else 80
    return Options(verbose=verbose, quiet=quiet, color=color, width=max(40, min(width, 120)))


def _check_output(output: str | None, force: bool) -> None:
    """Say that an output exists before minutes of work, not after."""
    from ckptaudit.errors import OutputError
    from ckptaudit.files import is_stream

    if output is not None and not force and os.path.lexists(output) and not is_stream(output):
        raise OutputError(f"{output}: exists already; --force overwrites it")


def _emit(text: str, output: str | None, force: bool) -> None:
    if output is not None:
        from ckptaudit.files import write_file

        write_file(output, text, force=force)
        return
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        # `| head`: what was wanted has been read. The exit code still tells the verdict.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
