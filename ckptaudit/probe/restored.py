"""The model with the file's values in it: of torch or of Keras, built anew for this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.arch.model import SELF
from ckptaudit.errors import ArchitectureError
from ckptaudit.pipeline import model_of_own_config
from ckptaudit.prove.networks import keras_with_values, restore, runnable

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint


def restored(model: Model, plan: Plan, checkpoint: Checkpoint) -> Any:
    """The model with values, and with those of the plan put in.

    Raises
    ------
    ArchitectureError
        The model comes from a file, or cannot be given values.
    PlanError
        A step cannot be carried out.
    """
    if model.provenance == "file":
        raise ArchitectureError(f"{model.arch} comes from a file and cannot be run")
    if model.graph.framework == "keras":
        return keras_with_values(model_of_own_config(checkpoint, real=True) if model.source == SELF else model, plan, checkpoint)
    module = runnable(model)
    restore(module, plan, checkpoint)
    return module
