"""``ckptaudit spec``: write a model down."""

from __future__ import annotations

import click

from ckptaudit.cli._options import arch_arg_option, parse_arguments
from ckptaudit.cli._output import check_output, emit


@click.command(short_help="Write down a model for a later diff --against.")
@click.argument("arch")
@arch_arg_option
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file instead of printing.")
@click.option("--trace", is_flag=True, help="Find out which layer feeds which, by one pass without values.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def spec(arch: str, arch_args: tuple[str, ...], output: str | None, trace: bool, force: bool) -> None:
    """Write names, shapes and attributes of a model as it is built now, for a later `diff --against`."""
    from ckptaudit.arch import build_model
    from ckptaudit.arch.spec import spec_text

    check_output(output, force)
    emit(spec_text(build_model(arch, parse_arguments(arch_args), trace=trace, fresh=True)), output, force)
