"""Write what a plan gives into a live Keras model, whatever its backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.keras_values import value_of, variables_of
from ckptaudit.errors import PlanError
from ckptaudit.pipeline import Audit
from ckptaudit.plan.applying import step_result
from ckptaudit.plan.plan import keeps_rows
from ckptaudit.read.identity import kept_open
from ckptaudit.restore.again import audit_again
from ckptaudit.restore.demand import Demand, Outcome, beyond_dtype, refusal

if TYPE_CHECKING:
    import numpy

    from ckptaudit.plan import Step

    Array = numpy.ndarray[Any, Any]


def restore(model: Any, audit: Audit, demand: Demand) -> None:
    """Carry out the plan of an audit that meets the demand: all values are read once before the first is written."""
    variables = variables_of(model)
    files = {audit.checkpoint.branch.tensors[name].storage.file for step in audit.plan.steps for name in step.sources}
    with kept_open(files):
        for step, value in _values(audit, variables):
            held = value_of(variables[step.target])
            if value.shape != held.shape:
                raise PlanError(f"{step.target}: the plan gives the shape {value.shape}, the model has {held.shape}")
            if lost := _overflows(value, held.dtype):
                raise beyond_dtype(audit, step.target, lost, str(held.dtype))
        for step, value in _values(audit, variables):
            variables[step.target].assign(value)
        if other := next((outcome.name for outcome in outcomes(model, audit) if not outcome.same), None):
            raise refusal(audit, f"`{other}` does not hold what was written to it: the model is no longer as it was.")
    audit_again(model, {name: value_of(variable) for name, variable in variables.items()}, audit, demand)


def outcomes(model: Any, audit: Audit) -> Iterator[Outcome]:
    """Compare every value that the plan sets with the model's."""
    import numpy

    variables = variables_of(model)
    for step, value in _values(audit, variables):
        held = value_of(variables[step.target])
        with numpy.errstate(over="ignore"):
            wanted = value.astype(held.dtype)
        same = wanted.shape == held.shape and bool(((wanted == held) | (numpy.isnan(wanted) & numpy.isnan(held))).all())
        yield Outcome(step.target, same, _overflows(value, held.dtype), str(held.dtype))


def _values(audit: Audit, variables: Mapping[str, Any]) -> Iterator[tuple[Step, Array]]:
    for step in audit.plan.steps:
        kept = keeps_rows(step)
        yield step, step_result(step, audit.checkpoint, {step.target: value_of(variables[step.target])} if kept else None)


def _overflows(value: Array, dtype: Any) -> int:
    import numpy

    if value.dtype == dtype or value.dtype.kind not in "fV":
        return 0
    with numpy.errstate(over="ignore"):
        return int((numpy.isfinite(value) & ~numpy.isfinite(value.astype(dtype))).sum())
