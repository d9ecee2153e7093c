"""Torch tensors beside one another: what is the same, and what a conversion loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Values at each end of a tensor that are looked at where looking at all of them would cost as much as restoring again.
END = 512


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
