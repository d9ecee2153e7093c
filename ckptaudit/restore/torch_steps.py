"""What a plan's steps give, as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops import apply_ops, dense
from ckptaudit.arch.torch_arrays import lent_tensor, tensor_dtype, to_array
from ckptaudit.errors import UsageError
from ckptaudit.plan.plan import keeps_rows
from ckptaudit.plan.undecoded import refuse_undecoded
from ckptaudit.restore.demand import Outcome
from ckptaudit.restore.torch_values import lost_values, same_values

if TYPE_CHECKING:
    import torch

    from ckptaudit.pipeline import Audit
    from ckptaudit.plan import Step
    from ckptaudit.read import Checkpoint


def step_value(step: Step, checkpoint: Checkpoint, initial: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What the step gives, in the file's dtype: drop it before asking for the next.

    It is read, not mapped: a file that is cut short meanwhile kills a process that has it mapped.

    Parameters
    ----------
    initial:
        The model's tensors, for steps that keep rows of them.

    Raises
    ------
    CkptAuditError
        The values cannot be read, or have a dtype that is not restored.
    """
    for name in step.sources:
        refuse_undecoded(checkpoint.branch.tensors[name].dtype)
    arrays = [checkpoint.branch.tensors[name].read() for name in step.sources]
    kept = to_array(initial[step.target]) if keeps_rows(step) else None
    return lent_tensor(dense(apply_ops(step.ops, arrays, kept)))


def outcomes(model: Any, audit: Audit) -> Iterator[Outcome]:
    """Compare every value that the plan sets with the model's.

    Raises
    ------
    UsageError
        One of them is on the meta device.
    """
    state = model.state_dict()
    for step in audit.plan.steps:
        if state[step.target].is_meta:
            raise UsageError(
                f"{step.target} is on the meta device and has no values to compare: restore the model first, with "
                "load_state_dict(…, assign=True) or ckptaudit.load(model, file, device=…)"
            )
    for step in audit.plan.steps:
        held, value = state[step.target].detach().cpu(), step_value(step, audit.checkpoint, state)
        yield Outcome(step.target, same_values(held, value.to(held.dtype)), lost_values(value, held.dtype), tensor_dtype(held))
