"""Tensors of a model that share memory: writing one must not undo another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.errors import CkptAuditError
from ckptaudit.restore.torch_values import is_plain, same_values

if TYPE_CHECKING:
    import torch

    from ckptaudit.restore.torch_writing import Write


def refuse_contradictions(writes: list[Write]) -> None:
    """Raise CkptAuditError where the same memory would be given two values; only tensors that share some are read."""
    storages: dict[int, list[Write]] = {}
    for write in writes:
        if write.target.numel():
            storages.setdefault(write.target.untyped_storage().data_ptr(), []).append(write)
    for sharing in storages.values():
        for group in _overlapping(sharing):
            _rehearse(group)


def covers(outer: torch.Tensor, inner: torch.Tensor) -> bool:
    """Whether writing all of ``outer`` gives every element of ``inner`` a value."""
    if not (is_plain(outer) and is_plain(inner) and inner.numel() and not inner.is_meta):
        return False
    if outer.untyped_storage().data_ptr() != inner.untyped_storage().data_ptr():
        return False
    (begin, end), (start, stop) = _span(outer), _span(inner)
    return begin <= start and stop <= end and end - begin == outer.nbytes


def _overlapping(writes: list[Write]) -> list[list[Write]]:
    """Groups of tensors of one storage whose spans in it meet; identical tensors that get the same values do no harm."""
    groups: list[list[Write]] = []
    end = -1
    for write in sorted(writes, key=lambda write: _span(write.target)[0]):
        start, stop = _span(write.target)
        if start < end:
            groups[-1].append(write)
        else:
            groups.append([write])
        end = max(end, stop)
    return [group for group in groups if len({(_view(write.target), _origin(write)) for write in group}) > 1]


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    size = tensor.element_size()
    start = tensor.storage_offset() * size
    return start, start + size * (1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)))


def _view(tensor: torch.Tensor) -> object:
    return (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _origin(write: Write) -> object:
    return (write.step.ops, tuple(write.checkpoint.branch.tensors[name].address for name in write.step.sources))


def _rehearse(writes: list[Write]) -> None:
    """Write to a copy of the memory first, and look whether every tensor keeps its values."""
    import torch

    storage = writes[0].target.untyped_storage().clone()

    def copy_of(write: Write) -> torch.Tensor:
        target = write.target
        empty = torch.empty(0, dtype=target.dtype, device=target.device)
        return empty.set_(storage, target.storage_offset(), target.shape, target.stride())

    for write in writes:
        copy_of(write).copy_(write.value())
    for write in writes:
        if not same_values(copy_of(write), write.value().to(write.target.dtype).to(write.target.device)):
            names = ", ".join(write.step.target for write in writes[:3])
            raise CkptAuditError(f"{names} share memory in the model, and the checkpoint holds different values for them")
