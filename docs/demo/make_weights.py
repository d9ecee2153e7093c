"""Write what stands for the released weights; values do not matter, so every run writes the same bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from segkit.models import Large, Small
from torch import Tensor


def trained(name: str, tensor: Tensor) -> Tensor:
    """Values that look trained, and that every machine computes alike."""
    if not tensor.is_floating_point():
        return torch.full_like(tensor, 1000)
    values = (torch.arange(tensor.numel()) % 7).reshape(tensor.shape).to(tensor.dtype) / 8
    return values + 0.5 if name.endswith("running_var") else values


Path("weights").mkdir(exist_ok=True)
for model, name in ((Large(), "large_voc"), (Small(), "small_cityscapes")):
    save_file({key: trained(key, tensor) for key, tensor in model.state_dict().items()}, f"weights/{name}.safetensors")
