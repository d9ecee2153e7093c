"""A function ``remap(state_dict)`` that needs nothing but torch."""

from __future__ import annotations

from ckptaudit.plan.emit._torch_code import torch_function
from ckptaudit.plan.plan import Plan


def emit(plan: Plan) -> str:
    """Source of the function."""
    return torch_function(plan, "remap(state_dict)", "A new state dict for the model; the one given is not changed.")
