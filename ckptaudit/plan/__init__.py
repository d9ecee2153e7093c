"""What to do so that the checkpoint restores: one step per tensor of the model."""

from ckptaudit.plan.plan import Plan, Step, make_plan

__all__ = ["Plan", "Step", "make_plan"]
