"""``ckptaudit probe``: why is the output black? The model is restored and run, and causes are ranked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptaudit.cli._exit_codes import FIT, NOT_FIT
from ckptaudit.cli._options import arch_arg_option, max_header_option, model_side, outputs_options, parse_sizes
from ckptaudit.cli._output import Outputs, check_output
from ckptaudit.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptaudit.arch import Model
    from ckptaudit.probe import Probe, Question
    from ckptaudit.read import Checkpoint

#: ``--format``: the forms of :mod:`ckptaudit.report._probe`.
FORMATS = ("json", "markdown", "terminal")


@click.command(short_help="Why is the output black? Rank the causes, on your own images.")
@click.argument("checkpoint", type=click.Path(readable=False), required=False)
@click.option("--arch", help="A published name, package.module:factory, or file.py:factory; without it, what the file is sure to hold.")
@arch_arg_option
@click.option("--branch", help="Which part of the file to take (`ckptaudit show` lists them).")
@max_header_option
@click.option("--images", type=click.Path(path_type=Path), help="A folder of images, best your own.")
@click.option(
    "--preprocess", help="What you do to images: imagenet, -1..1, 0..1, 0..255, caffe, stated (by the library), or file.py:function."
)
@click.option("--read", metavar="HOW", help="How you read the output: argmax, argmax:AXIS, softmax, sigmoid, threshold (at 0.5).")
@click.option("--classes", type=click.IntRange(1), help="How many classes you expect.")
@click.option("--input-size", metavar="3x224x224", help="Sizes of one input; guessed otherwise.")
@click.option("--mask", "masks", multiple=True, type=click.Path(path_type=Path), help="An image file that looks black; repeatable.")
@click.option(
    "--budget",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds for which the model should be run; six crops are the least, however large it is.",
)
@click.option("--crops", type=click.IntRange(6), default=120, show_default=True, help="Pieces of images that are run, at most.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the agreement of each BatchNorm along the depth, as a PNG.")
@outputs_options(FORMATS)
def probe(
    checkpoint: str | None,
    arch: str | None,
    arch_args: tuple[str, ...],
    branch: str | None,
    images: Path | None,
    preprocess: str | None,
    read: str | None,
    classes: int | None,
    input_size: str | None,
    masks: tuple[Path, ...],
    budget: float,
    crops: int,
    plot: str | None,
    outputs: Outputs,
) -> None:
    """Restore a checkpoint, run it on images, and rank the causes of a wrong output: 1 when one is found.

    Without --images, what needs none is tested. The model's code is run.
    """
    from ckptaudit.errors import UsageError
    from ckptaudit.pipeline import audit
    from ckptaudit.probe import Probe, Question, check_question, probe_checkpoint, with_masks
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report._probe import render_probe
    from ckptaudit.report._progress import passes_bar

    if checkpoint is None and not masks:
        raise UsageError("give a checkpoint, or a --mask to look at")
    check_output(plot, outputs.force)
    if plot is not None and (checkpoint is None or images is None):
        raise UsageError("--plot draws what images show: give a checkpoint and --images")
    outcome = Probe("", "", ())
    if checkpoint is not None:
        build = model_side(arch, None, arch_args, fresh=False)
        opened = open_checkpoint(checkpoint, branch=branch)
        asks = Question(images, preprocess, read, classes, parse_sizes(input_size), budget, crops)
        check_question(asks)
        if opened.framework == "onnx":
            outcome = _export(opened, build, arch, asks)
        else:
            audited = audit(opened, build(opened), branch=branch)
            with passes_bar() as tick:
                outcome = probe_checkpoint(audited, replace(asks, tick=tick or (lambda *_: None)))
    outcome = with_masks(outcome, masks)
    if plot is not None:
        from ckptaudit.probe.plot import draw_agreement

        draw_agreement(outcome, plot, force=outputs.force)
    outputs.write(lambda output_format, options: render_probe(outcome, output_format, options))
    sys.exit(NOT_FIT if outcome.causes else FIT)


def _export(opened: Checkpoint, build: Callable[[Checkpoint], Model], arch: str | None, question: Question) -> Probe:
    """An ONNX file is run itself; the architecture only states how images are fed."""
    from ckptaudit.errors import UsageError
    from ckptaudit.probe.exported import probe_export
    from ckptaudit.report._progress import passes_bar

    try:
        model = build(opened)
    except UsageError:
        if arch is not None:
            raise
        model = None  # it is none that is sure
    with passes_bar() as tick:
        return probe_export(opened, model, replace(question, tick=tick or (lambda *_: None)))
