"""The model with the file's values in it: of torch or of Keras, built anew for this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.arch import build_model
from ckptaudit.arch.keras_model import is_keras_model
from ckptaudit.errors import ArchitectureError, PlanError
from ckptaudit.plan.applying import step_result
from ckptaudit.prove.networks import restore, runnable

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
        return _keras(model, plan, checkpoint)
    module = runnable(model)
    restore(module, plan, checkpoint)
    return module


def _keras(model: Model, plan: Plan, checkpoint: Checkpoint) -> Any:
    from ckptaudit.restore.keras_writing import value_of, variables_of

    if model.source == "object":
        raise ArchitectureError(f"{model.arch} is a live Keras model, which is not copied: name what builds it")
    built = build_model(model.arch, model.arguments, real=True).module
    if not is_keras_model(built):
        raise ArchitectureError(f"{model.arch} was not built as a Keras model")
    variables = variables_of(built)
    for step in plan.steps:
        variable = variables[step.target]
        kept = any(getattr(op, "needs_initial", False) for op in step.ops)
        value = step_result(step, checkpoint, {step.target: value_of(variable)} if kept else None)
        if tuple(value.shape) != tuple(variable.shape):
            raise PlanError(f"{step.target}: the plan gives the shape {value.shape}, the model has {tuple(variable.shape)}")
        variable.assign(value)
    return built
