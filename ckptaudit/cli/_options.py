"""Options that several verbs share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ckptaudit.cli._output import plan_outputs
from ckptaudit.errors import UsageError

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.read import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])


def _together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown by ``--help`` in the order in which they are written."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


arch_arg_option = click.option(
    "--arch-arg", "arch_args", multiple=True, metavar="KEY=VALUE", help="Argument for the model's builder; repeatable."
)


def _limit_headers(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Let every reader of this process know; also those in child processes."""
    if value is not None:
        from ckptaudit.read.opening import MAX_HEADER, header_limit

        os.environ[MAX_HEADER] = value
        header_limit()


max_header_option = click.option(
    "--max-header",
    metavar="SIZE",
    callback=_limit_headers,
    expose_value=False,
    help="Largest header that is taken into memory, such as 500M; also CKPTAUDIT_MAX_HEADER.  [default: 100M]",
)

#: The two sides of a comparison: CHECKPOINT, and the model by one of two ways or by what the file is; see :func:`model_side`.
sides_options = _together(
    click.argument("checkpoint", type=click.Path(readable=False)),
    click.option(
        "--arch",
        help="A published name, package.module:factory, or file.py:factory; `self`: what a Keras file describes. "
        "Without it, what the file is sure to hold.",
    ),
    click.option(
        "--against",
        type=click.Path(readable=False),
        help="Another checkpoint, or a saved spec, to compare with; "
        "of an ONNX file with --arch, the checkpoint that it was exported from: values are compared.",
    ),
    arch_arg_option,
    click.option("--fresh", is_flag=True, help="Build the model now, even where cache or catalogue know it."),
    max_header_option,
    click.option("--branch", help="Which part of the file to take (`ckptaudit show` lists them)."),
    click.option(
        "--for",
        "intent",
        type=click.Choice(["eval", "finetune", "resume"]),
        default="eval",
        show_default=True,
        help="What the checkpoint is wanted for.",
    ),
)


def _formats_and_files(choices: tuple[str, ...]) -> Callable[[Any, Any, tuple[str, ...]], list[tuple[str, str | None]]]:
    """The callback that turns each ``FORMAT`` or ``FORMAT=FILE`` into the pair of them."""

    def parse(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str | None]]:
        pairs: list[tuple[str, str | None]] = []
        for value in values:
            chosen, equals, file = value.partition("=")
            if chosen not in choices:
                raise click.BadParameter(f"{chosen!r} is not one of {', '.join(choices)}.", context, parameter)
            if equals and not file:
                raise click.BadParameter(f"{value!r} names no file.", context, parameter)
            pairs.append((chosen, file or None))
        return pairs

    return parse


def outputs_options(choices: tuple[str, ...]) -> Callable[[Command], Command]:
    """What is printed and what is written where; the command gets it as ``outputs``, checked before it does any work."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_outputs(
            *args: Any,
            formats: list[tuple[str, str | None]],
            output: str | None,
            force: bool,
            quiet: bool,
            verbose: bool,
            **rest: Any,
        ) -> Any:
            return command(*args, outputs=plan_outputs(formats, output, force=force, quiet=quiet, verbose=verbose), **rest)

        return _together(
            click.option(
                "--format",
                "formats",
                multiple=True,
                callback=_formats_and_files(choices),
                metavar=f"[{'|'.join(choices)}][=FILE]",
                help="What to print, or to write to FILE; repeatable. By default: terminal.",
            ),
            click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to this file instead of printing."),
            click.option("--force", is_flag=True, help="Overwrite existing output files."),
            click.option("-q", "--quiet", is_flag=True, help="The diagnosis alone."),
            click.option("-v", "--verbose", is_flag=True, help="Every name, nothing folded."),
        )(with_outputs)  # type: ignore[return-value]

    return decorate


def parse_arguments(arch_args: tuple[str, ...]) -> Mapping[str, Any]:
    """The values of ``--arch-arg`` as keyword arguments."""
    from ckptaudit.arch import parse_argument

    return dict(parse_argument(text) for text in arch_args)


def model_side(
    arch: str | None, against: str | None, arch_args: tuple[str, ...], fresh: bool, *, twin: bool = False
) -> Callable[[Checkpoint], Model]:
    """Check how the model is named, and return what builds it for an open checkpoint, which says what it is where nobody else does.

    With ``twin`` both ``--arch`` and ``--against`` may be given: the model is the architecture. Nothing is built yet, so that a bad
    checkpoint is told at once.

    Raises
    ------
    UsageError
        Both ``--arch`` and ``--against`` where one is asked for, or arguments for what is not built.
    """
    if arch is not None and against is not None and not twin:
        raise UsageError("give either --arch or --against, not both")
    if against is not None and arch is None and arch_args:
        raise UsageError("--arch-arg goes with --arch")
    if arch == "self" and arch_args:
        raise UsageError("what a file describes takes no --arch-arg")
    arguments = parse_arguments(arch_args)

    def build(checkpoint: Checkpoint) -> Model:
        from ckptaudit.arch import build_model
        from ckptaudit.pipeline import load_other, model_of_identity, model_of_own_config

        if against is not None and arch is None:
            return load_other(against)
        if arch == "self":
            return model_of_own_config(checkpoint)
        if arch is not None:
            return build_model(arch, arguments, fresh=fresh)
        return model_of_identity(checkpoint, arguments, fresh=fresh)

    return build


def parse_sizes(text: str | None) -> tuple[int, ...] | None:
    """``--input-size`` as numbers.

    Raises
    ------
    UsageError
        It is written otherwise than ``3x224x224``.
    """
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if not all(part.isdecimal() and 0 < int(part) < 1 << 16 for part in parts):
        raise UsageError(f"--input-size {text}: write it as 3x224x224")
    return tuple(map(int, parts))
