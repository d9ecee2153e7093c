"""What to do so that the checkpoint restores: one step per tensor of the model."""

from ckptaudit.plan.fingerprint import Side, fingerprint
from ckptaudit.plan.plan import Plan, Step, make_plan
from ckptaudit.plan.rename_rules import RenameRule, Renaming, rename_rules

__all__ = ["Plan", "RenameRule", "Renaming", "Side", "Step", "fingerprint", "make_plan", "rename_rules"]
