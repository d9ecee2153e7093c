"""What to do so that the checkpoint restores: one step per tensor of the model."""

from ckptaudit.plan.plan import Plan, Step, make_plan
from ckptaudit.plan.rename_rules import RenameRule, rename_rules

__all__ = ["Plan", "RenameRule", "Step", "make_plan", "rename_rules"]
