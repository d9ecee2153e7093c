"""Write what a plan gives into a live torch model: everything is decided before the first write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ckptaudit.align import ops
from ckptaudit.arch.torch_arrays import lent_tensor, tensor_dtype
from ckptaudit.errors import CheckpointError, CkptAuditError, PlanError
from ckptaudit.pipeline import Audit
from ckptaudit.plan.undecoded import refuse_undecoded
from ckptaudit.read.identity import kept_open
from ckptaudit.records import dataclass
from ckptaudit.restore.demand import Demand, beyond_dtype, refusal
from ckptaudit.restore.meta import materialised
from ckptaudit.restore.overlaps import refuse_contradictions
from ckptaudit.restore.torch_values import END, ends, is_plain, lost_values, same_values

if TYPE_CHECKING:
    import torch

    from ckptaudit.plan import Step
    from ckptaudit.read import Checkpoint
    from ckptaudit.read.stored import StoredTensor

    #: Whether a tensor holds what was to be written, as far as it is looked at.
    Check = Callable[[torch.Tensor], bool]

#: Reads at a time: one alone leaves the memory's, and a disk's, bandwidth unused. Bytes that are not worth another thread, and bytes of
#: one read: all threads come to an end together, whatever the sizes of tensors.
_READERS, _SMALL, _PIECE = min(4, os.cpu_count() or 1), 256 << 10, 32 << 20


@dataclass(frozen=True, eq=False)
class Write:
    """One tensor of the model and where its values come from; ``tensor`` shares the model's memory and is part of no graph."""

    step: Step
    tensor: torch.Tensor
    checkpoint: Checkpoint
    state: Mapping[str, torch.Tensor]

    @cached_property
    def target(self) -> torch.Tensor:
        """What is written to: the tensor itself, or, where it was expanded, the one slice that is all of its memory."""
        return self._narrowed(self.tensor)

    def value(self) -> torch.Tensor:
        """What is written, in the file's dtype."""
        from ckptaudit.restore.torch_steps import step_value  # needed where bytes cannot be copied as they lie

        value = step_value(self.step, self.checkpoint, self.state)
        narrowed = self._narrowed(value)
        if narrowed.shape != value.shape and not same_values(narrowed.expand_as(value), value):
            raise PlanError(f"{self.step.target}: the model repeats one slice (an expanded tensor), and the file's slices differ")
        return narrowed

    @cached_property
    def straight(self) -> bool:
        """Whether the bytes of the file are those of the tensor, so that they can be read into its memory."""
        target = self.target
        return (
            not self.step.ops
            and self._stored[0].lies_as_it_is
            and self._stored[0].dtype == tensor_dtype(target)
            and target.device.type == "cpu"
            and target.shape == self.tensor.shape
            and target.is_contiguous()
            and not target.is_conj()
            and not target.is_neg()
        )

    def reads(self) -> Iterator[Callable[[], None]]:
        """What writes a tensor that is :attr:`straight`, piece by piece, in any order."""
        import torch

        if not self.target.is_inference():
            torch.autograd.graph.increment_version(self.target)  # a backward pass that still needs the old values must be told
        memory = _bytes_of(self.target)
        for first in range(0, len(memory), _PIECE):
            yield partial(self._stored[0].read_into, memory[first : first + _PIECE], first)

    def check(self) -> Check:
        """The check whether a tensor holds, at both ends, a value that is not :attr:`computed`: the rest of it is not read."""
        stored = self._stored[0]
        refuse_undecoded(stored.dtype)
        if not self.straight:
            first, last = (lent_tensor(stored.sample(END, last=last)) for last in (False, True))
            return _check_of(first.to(self.target.dtype), last.to(self.target.dtype))
        begin, end = stored.ends(END)

        def same(after: torch.Tensor) -> bool:
            memory = _bytes_of(after)
            found = bytes(memory[: len(begin)]), bytes(memory[len(memory) - len(end) :])
            # Two names of one tensor may differ in the sign of a zero, or in the bits of a NaN.
            return all(
                a == b or same_values(*(_from_bytes(each, after.dtype) for each in (a, b)))
                for a, b in zip(found, (begin, end), strict=True)
            )

        return same

    @cached_property
    def _stored(self) -> list[StoredTensor]:
        return [self.checkpoint.branch.tensors[name] for name in self.step.sources]

    @property
    def computed(self) -> bool:
        """Whether the values must be looked at to know that they can be written, and not only to copy them."""
        unpacked = any(tensor.storage.fetch is not None for tensor in self._stored)
        return bool(
            self.step.ops
            or unpacked
            or self.target.shape != self.tensor.shape
            or _narrows(self._stored[0].dtype, tensor_dtype(self.tensor))
        )

    def _narrowed(self, value: torch.Tensor) -> torch.Tensor:
        for dim, (size, stride) in enumerate(zip(self.tensor.shape, self.tensor.stride(), strict=True)):
            if size > 1 and stride == 0:
                value = value.narrow(dim, 0, 1)
        return value


def restore(model: Any, audit: Audit, demand: Demand, device: Any) -> None:
    """Carry out the plan of an audit that meets the demand, and look whether it worked: see :func:`ckptaudit.load`."""
    files = {tensor.storage.file for step in audit.plan.steps for tensor in _sources(step, audit.checkpoint)}
    with kept_open(files), materialised(model, audit.plan, device), _writing(model):
        writes = _writes(model, audit)
        checks = [_rehearse(write, audit) for write in writes]
        refuse_contradictions(writes)
        _write(writes)
        _look(model, writes, checks, audit)
    if audit.plan.initial or not all(write.straight for write in writes):
        # Of bytes that lie in the model as in the file the first audit has told already.
        from ckptaudit.restore.again import audit_again

        audit_again(model, model.state_dict(), audit, demand)
    if device is not None:
        model.to(device)


def _writes(model: Any, audit: Audit) -> list[Write]:
    state, again = model.state_dict(), model.state_dict()
    writes = []
    for step in audit.plan.steps:
        tensor, other = state[step.target], again[step.target]
        if not is_plain(tensor):
            raise CkptAuditError(f"{step.target} is kept as {type(tensor).__name__} ({tensor.layout}): it cannot be restored in place")
        # Where the model hands out copies, writing to them would set nothing.
        if tensor.data_ptr() != other.data_ptr() or tensor.stride() != other.stride():
            raise CkptAuditError(f"{step.target}: the model's state_dict() gives a copy, which cannot be written to")
        writes.append(Write(step, tensor.detach(), audit.checkpoint, state))
    return writes


def _write(writes: list[Write]) -> None:
    """Write all of them; no two want the same memory."""
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            large = [write for write in writes if write.straight and write.target.nbytes > _SMALL]
            running = [pool.submit(copy_context().run, read) for write in large for read in write.reads()]
            for write in writes:
                if not write.straight:
                    write.target.copy_(write.value())
                elif write.target.nbytes <= _SMALL:
                    for read in write.reads():
                        read()
            for future in running:
                future.result()
    except CheckpointError as error:
        raise type(error)(error.path, f"{error.reason}; the model was being written already, and is no longer as it was") from None


def _rehearse(write: Write, audit: Audit) -> Check:
    """Raise what writing would raise, refuse values that the model's dtype does not hold, and give the check of what was written."""
    step, target = write.step, write.target
    shapes = [tensor.shape for tensor in _sources(step, write.checkpoint)]
    shape = ops.shape_after(step.ops, shapes) if step.ops or len(shapes) > 1 else shapes[0]
    if shape != tuple(write.tensor.shape):
        raise PlanError(f"{step.target}: the plan gives the shape {shape}, the model has {tuple(write.tensor.shape)}")
    span = 1 + sum((size - 1) * stride for size, stride in zip(target.shape, target.stride(), strict=True))
    if span < target.numel():
        raise CkptAuditError(f"{step.target}: several of its elements share one place in memory: it cannot be restored in place")
    if not write.computed:
        return write.check()
    value = write.value()
    if lost := lost_values(value, target.dtype):
        raise beyond_dtype(audit, step.target, lost, tensor_dtype(target))
    return _check_of(*ends(value.to(target.dtype)))


def _check_of(first: torch.Tensor, last: torch.Tensor) -> Check:
    """Whether a tensor has these ends."""
    return lambda after: all(same_values(a.reshape(-1), b.reshape(-1)) for a, b in zip(ends(after), (first, last), strict=True))


def _look(model: Any, writes: list[Write], checks: list[Check], audit: Audit) -> None:
    """Compare what the model holds with what was written."""
    state = model.state_dict()
    for write, holds in zip(writes, checks, strict=True):
        name, before, after = write.step.target, write.tensor, state[write.step.target]
        kept = (before.shape, before.dtype, before.device) == (after.shape, after.dtype, after.device)
        if not kept or not holds(write._narrowed(after)):
            raise refusal(audit, f"`{name}` does not hold what was written to it: the model is no longer as it was.")


def _sources(step: Step, checkpoint: Checkpoint) -> list[Any]:
    return [checkpoint.branch.tensors[name] for name in step.sources]


@contextmanager
def _writing(model: Any) -> Iterator[None]:
    """Let leaves be written to, also those that were made in inference mode."""
    import torch

    inference = any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers()))
    with torch.inference_mode() if inference else torch.no_grad():
        yield


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor in main memory."""
    import torch

    return memoryview(tensor.detach().reshape(-1).view(torch.uint8).numpy())


def _from_bytes(content: bytes | bytearray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.frombuffer(bytearray(content), dtype=dtype)


def _narrows(old: str, new: str) -> bool:
    """Whether some number of the dtype ``old`` is beyond what ``new`` holds."""
    import torch

    if old == new:
        return False
    a, b = getattr(torch, old, None), getattr(torch, new, None)
    if a is None or b is None or not (a.is_floating_point and b.is_floating_point):
        return True
    return bool(torch.finfo(b).max < torch.finfo(a).max)
