"""Carry out a plan in memory, one tensor at a time, whatever holds the values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops import apply_ops, dense
from ckptaudit.arch.torch_arrays import is_tensor, tensor_dtype, to_array, to_tensor
from ckptaudit.errors import CkptAuditError, PlanError
from ckptaudit.graph import TensorSpec
from ckptaudit.plan.fingerprint import fingerprint
from ckptaudit.plan.plan import Plan, Step
from ckptaudit.plan.undecoded import refuse_undecoded
from ckptaudit.read import Checkpoint, open_checkpoint
from ckptaudit.read.stored import StoredTensor
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy


def apply_plan(
    plan: Plan,
    source: str | os.PathLike[str] | Checkpoint | Mapping[str, Any],
    *,
    as_torch: bool,
    allow_ambiguous: bool,
    initial: Mapping[str, Any] | None,
    check: bool,
) -> dict[str, Any]:
    """Carry out a plan: see :meth:`Plan.apply`."""
    refuse_ambiguous(plan, allow_ambiguous)
    values: _Values = _MappingValues(source, as_torch) if isinstance(source, Mapping) else _FileValues(open_for(plan, source), as_torch)
    refuse_other_source(plan, values.specs(), values.label, check=check)
    result: dict[str, Any] = {}
    for step in plan.steps:
        try:
            result[step.target] = values.result(step, initial)
        except PlanError as error:
            raise PlanError(f"{step.target}: {error}") from None
    return result


def refuse_ambiguous(plan: Plan, allow_ambiguous: bool) -> None:
    """Raise PlanError when the plan has steps that nobody has decided."""
    unsure = [step.target for step in plan.steps if not step.sure]
    if unsure and not allow_ambiguous:
        more = f" and {len(unsure) - 1} more" if len(unsure) > 1 else ""
        raise PlanError(
            f"the plan is not sure of {unsure[0]}{more}: write `grade: decided` in its file where such a step is right, "
            "or take all of them as they are (allow_ambiguous=True, --allow-ambiguous at the prompt)"
        )


def open_for(plan: Plan, source: str | os.PathLike[str] | Checkpoint) -> Checkpoint:
    """The checkpoint, with the branch that the plan was made for."""
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    if isinstance(source, Checkpoint) or plan.source is None or checkpoint.branch.name == plan.source.branch:
        return checkpoint
    if any(branch.name == plan.source.branch for branch in checkpoint.branches):
        return checkpoint.with_branch(plan.source.branch, "chosen by the plan")
    return checkpoint


def refuse_other_source(plan: Plan, specs: list[TensorSpec], label: str, *, check: bool) -> None:
    """Raise PlanError when a tensor that the plan uses is not there, or (``check``) anything else differs from what it was made for."""
    names = {spec.name for spec in specs}
    missing = [name for name in dict.fromkeys(name for step in plan.steps for name in step.sources) if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more that the plan uses" if len(missing) > 1 else ", which the plan uses"
        raise PlanError(f"{label}: has no {missing[0]}{more}; the plan was made for another checkpoint")
    if check and plan.source is not None and plan.source.fingerprint != fingerprint(specs):
        made = f" ({plan.source.name})" if plan.source.name else ""
        raise PlanError(f"{label}: the plan was made for another checkpoint{made}: names, shapes or dtypes differ")


class _Values:
    """Where values come from."""

    label: str

    def specs(self) -> list[TensorSpec]:
        """Names, shapes and dtypes of everything that there is."""
        raise NotImplementedError

    def result(self, step: Step, initial: Mapping[str, Any] | None) -> Any:
        """What a step gives."""
        raise NotImplementedError


@dataclass(frozen=True)
class _FileValues(_Values):
    checkpoint: Checkpoint
    as_torch: bool

    @property
    def label(self) -> str:  # type: ignore[override]
        return str(self.checkpoint.path)

    def specs(self) -> list[TensorSpec]:
        return list(self.checkpoint.graph)

    def result(self, step: Step, initial: Mapping[str, Any] | None) -> Any:
        result = step_result(step, self.checkpoint, initial)
        return to_tensor(result) if self.as_torch else result


def step_result(step: Step, checkpoint: Checkpoint, initial: Mapping[str, Any] | None = None) -> numpy.ndarray[Any, Any]:
    """What a step gives, dense and in an array of its own; its sources alone are read."""
    return dense(step_values(step, checkpoint, initial))


def step_values(
    step: Step,
    checkpoint: Checkpoint,
    initial: Mapping[str, Any] | None = None,
    *,
    read: Callable[[StoredTensor], numpy.ndarray[Any, Any]] | None = None,
) -> numpy.ndarray[Any, Any]:
    """What a step gives, in whatever order it lies in memory; its sources alone are read.

    ``read`` reads instead of the tensor itself. It may give memory that the next call uses again: a step of several sources is not read
    with it.
    """
    for name in step.sources:
        refuse_undecoded(checkpoint.branch.tensors[name].dtype)
    stored = [checkpoint.branch.tensors[name] for name in step.sources]
    arrays = [read(stored[0])] if read is not None and len(stored) == 1 else [tensor.read() for tensor in stored]
    return apply_ops(step.ops, arrays, _initial(step, initial))


@dataclass(frozen=True)
class _MappingValues(_Values):
    given: Mapping[str, Any]
    as_torch: bool

    label = "the mapping"

    def specs(self) -> list[TensorSpec]:
        return [_spec(name, value) for name, value in self.given.items() if hasattr(value, "dtype") and hasattr(value, "shape")]

    def result(self, step: Step, initial: Mapping[str, Any] | None) -> Any:
        given = [self.given[name] for name in step.sources]
        like = next((value for value in given if is_tensor(value)), None)
        if not step.ops and len(given) == 1:
            if like is not None:
                return like.detach()
            return to_tensor(_array(given[0])) if self.as_torch else given[0]
        result = apply_ops(step.ops, [_array(value) for value in given], _initial(step, initial))
        if any(value is result or _shares(value, result) for value in given):
            result = result.copy(order="C")
        if like is not None or self.as_torch:
            return to_tensor(dense(result), like)
        return dense(result)


def _shares(value: Any, result: numpy.ndarray[Any, Any]) -> bool:
    """Whether writing to the result would write to the value."""
    import numpy

    return bool(numpy.may_share_memory(_array(value), result))


def _initial(step: Step, initial: Mapping[str, Any] | None) -> numpy.ndarray[Any, Any] | None:
    return _array(initial[step.target]) if initial is not None and step.target in initial else None


def _array(value: Any) -> numpy.ndarray[Any, Any]:
    import numpy

    try:
        return to_array(value) if is_tensor(value) else numpy.asarray(value)
    except CkptAuditError as error:
        raise PlanError(str(error)) from None


def _spec(name: str, value: Any) -> TensorSpec:
    dtype = tensor_dtype(value) if is_tensor(value) else getattr(value.dtype, "name", str(value.dtype))
    return TensorSpec(name, tuple(map(int, value.shape)), dtype)
