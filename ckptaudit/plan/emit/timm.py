"""A ``checkpoint_filter_fn`` as timm's models register one."""

from __future__ import annotations

from ckptaudit.plan.emit._torch_code import torch_function
from ckptaudit.plan.plan import Plan


def emit(plan: Plan) -> str:
    """Source of the function."""
    return torch_function(
        plan,
        "checkpoint_filter_fn(state_dict, model=None)",
        "Remap for timm: build_model_with_cfg(..., pretrained_filter_fn=checkpoint_filter_fn).",
    )
