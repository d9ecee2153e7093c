"""What a plan's steps give, as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops import apply_ops, dense
from ckptaudit.arch.torch_arrays import lent_tensor, tensor_dtype, to_array
from ckptaudit.errors import UsageError
from ckptaudit.plan.applying import refuse_undecoded
from ckptaudit.plan.plan import keeps_rows
from ckptaudit.restore.demand import Outcome

if TYPE_CHECKING:
    import torch

    from ckptaudit.pipeline import Audit
    from ckptaudit.plan import Step
    from ckptaudit.read import Checkpoint

#: Values at each end of a tensor that are looked at where looking at all of them would cost as much as restoring again.
END = 512


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


def lost_values(value: torch.Tensor, dtype: torch.dtype) -> int:
    """How many values a conversion makes infinite, or where it is to whole numbers, other ones."""
    import torch

    if value.dtype == dtype or value.is_complex() or dtype.is_complex:
        return 0
    if not dtype.is_floating_point:
        return int((value.to(dtype).to(value.dtype) != value).sum())
    if not value.is_floating_point() or torch.finfo(dtype).max >= torch.finfo(value.dtype).max:
        return 0
    return int((torch.isfinite(value) & ~torch.isfinite(value.to(dtype).to(value.dtype))).sum())


def same_values(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one dtype hold the same values; a NaN is equal to the NaN in its place."""
    import torch

    if torch.equal(a, b):
        return True
    if a.shape != b.shape or not (a.is_floating_point() or a.is_complex()):
        return False
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def ends(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of some values from the beginning and of some from the end, in main memory; equal tensors give equal ones."""
    first, last = tensor, tensor
    while first.ndim and first.numel() > END:
        count = max(1, END // max(1, first[0].numel()))
        first, last = (first[0], last[-1]) if count == 1 else (first[:count], last[-count:])
    return first.detach().to("cpu", copy=True), last.detach().to("cpu", copy=True)


def is_plain(tensor: Any) -> bool:
    """Whether the tensor's elements lie in one memory of its own process: not sharded, sparse, quantised or of a subclass of its own."""
    import torch

    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_quantized
