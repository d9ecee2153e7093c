"""What the verbs that put a plan to the proof share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.read import Checkpoint

input_size_option = click.option("--input-size", metavar="3x224x224", help="Sizes of one input to run the models on; guessed otherwise.")


def models_that_may_have_written(opened: Checkpoint, source_arch: str | None, guess: bool) -> tuple[Model | None, tuple[Model, ...]]:
    """The model that wrote the file: the one that is given, or what the file is sure to be, and the others with the same tensors."""
    from ckptaudit.arch import build_model
    from ckptaudit.errors import ArchitectureError
    from ckptaudit.pipeline import identify, model_of_own_config

    if source_arch == "self":
        return model_of_own_config(opened, real=True), ()
    if source_arch is not None:
        return build_model(source_arch), ()
    best = identify(opened).best if guess else None
    if best is None:
        return None, ()
    try:
        return build_model(best.arch, best.arguments), tuple(build_model(name, best.arguments) for name in best.equivalents)
    except ArchitectureError:  # of another library, say, that is not installed: whose the file is stays unknown
        return None, ()
