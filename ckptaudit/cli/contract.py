"""``ckptaudit contract``: how a model wants to be fed and read, and the code that does it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptaudit.cli._exit_codes import FIT, NOT_FIT
from ckptaudit.cli._options import arch_arg_option, max_header_option, outputs_options, parse_arguments, parse_sizes
from ckptaudit.cli._output import Outputs

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.arch.preprocessing import Layout
    from ckptaudit.read import Checkpoint

#: ``--format``: the forms of :mod:`ckptaudit.report._contract`.
FORMATS = ("json", "markdown", "terminal")


@click.command(short_help="How does a model want to be fed and read? With the code.")
@click.argument("name", metavar="CKPT|ARCH")
@click.option("--arch", help="The model of a checkpoint; without it, what the file is sure to hold, or the file alone.")
@arch_arg_option
@click.option("--branch", help="Which part of the file to take (`ckptaudit show` lists them).")
@max_header_option
@click.option("--images", type=click.Path(path_type=Path), help="Images to tell by what nobody states.")
@click.option("--input-size", metavar="3x224x224", help="Sizes of one input for --images; guessed otherwise.")
@outputs_options(FORMATS)
def contract(
    name: str,
    arch: str | None,
    arch_args: tuple[str, ...],
    branch: str | None,
    images: Path | None,
    input_size: str | None,
    outputs: Outputs,
) -> None:
    """Say size, layout, colours, scale, mean, deviation, output and classes, each with who says so; 1 when nobody says how images are fed.

    The code for torchvision, numpy, Keras and OpenCV DNN is printed with it.
    """
    from ckptaudit.contract import make_contract
    from ckptaudit.errors import UsageError
    from ckptaudit.report._contract import render_contract
    from ckptaudit.scanning.targets import SUFFIXES

    is_file = os.path.lexists(name) and ("." in name or os.sep in name) and ".py:" not in name
    # What is named like a checkpoint and is not there is told as such.
    is_file = is_file or arch is not None or Path(name).suffix.lower() in SUFFIXES
    if images is not None and not is_file:
        raise UsageError("--images needs a checkpoint: an architecture alone has no weights")
    if not is_file:
        from ckptaudit.arch import build_model

        made = make_contract(name, build_model(name, parse_arguments(arch_args)), None)
    else:
        from ckptaudit.read import open_checkpoint

        opened = open_checkpoint(name, branch=branch)
        model = _model(opened, arch, arch_args)
        extra = _seen(opened, model, branch, images, input_size) if images is not None else {}
        made = make_contract(opened.path.name, model, opened, **extra)  # type: ignore[arg-type]
    outputs.write(lambda output_format, options: render_contract(made, output_format, options))
    sys.exit(FIT if made.preprocessing is not None else NOT_FIT)


def _model(opened: Checkpoint, arch: str | None, arch_args: tuple[str, ...]) -> Model | None:
    from ckptaudit.arch import build_model
    from ckptaudit.errors import UsageError
    from ckptaudit.pipeline import model_of_identity

    arguments = parse_arguments(arch_args)
    if arch is not None:
        return build_model(arch, arguments)
    try:
        return model_of_identity(opened, arguments)
    except UsageError:
        return None  # it is none that is sure: the file alone is asked


def _seen(opened: Checkpoint, model: Model | None, branch: str | None, images: Path, input_size: str | None) -> dict[str, object]:
    """What a probe adds: ways to feed images that agree, and what comes out."""
    from ckptaudit.align.by_topology.naming import named_by_nodes
    from ckptaudit.errors import UsageError
    from ckptaudit.graph.facts import facts_of
    from ckptaudit.pipeline import audit
    from ckptaudit.probe import Question, probe_checkpoint
    from ckptaudit.prove.presets import PRESETS, flipped
    from ckptaudit.records import replace
    from ckptaudit.report._progress import passes_bar

    if model is None and opened.framework != "onnx":
        raise UsageError("the file does not show for sure what it is; give --arch")
    with passes_bar() as tick:
        question = Question(images, input_size=parse_sizes(input_size), tick=tick or (lambda *_: None))
        if opened.framework == "onnx":
            from ckptaudit.probe.exported import probe_export

            probe = probe_export(opened, model, question)
        else:
            probe = probe_checkpoint(audit(opened, model, branch=branch), question)
    graph = named_by_nodes(opened.graph) if model is None else model.graph
    stated = None if model is None else model.preprocessing
    feeding = next(h for h in probe.hypotheses if h.cause == "preprocessing")
    found = []
    for name in feeding.figures.get("left", ()) if feeding.figures.get("agrees") else ():
        way = PRESETS.get(name) or (flipped(PRESETS[name.partition(",")[0]]) if name.partition(",")[0] in PRESETS else stated)
        if way is not None and probe.images is not None:
            if facts_of(graph).in_channels == 1:
                way = replace(way, channels=None, mean=way.mean and way.mean[:1], std=way.std and way.std[:1])
            told = "as the BatchNorm statistics agree" + (", among others" if len(feeding.figures["left"]) > 1 else "")
            layout: Layout = "NHWC" if graph.framework == "keras" else "NCHW"
            found.append(replace(way, layout=layout, source=f"probe: {way.source}, {told}"))
    output = None if probe.output is None else (probe.output.kind, probe.output.axis, "probe: as seen on your images")
    return {"found": found, "output": output}
