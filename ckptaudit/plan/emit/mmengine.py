"""``revise_keys`` for mmengine's ``load_checkpoint``, which substitutes the patterns one after the other in every key."""

from __future__ import annotations

from ckptaudit.plan.emit._key_patterns import key_patterns, one_after_the_other
from ckptaudit.plan.emit._torch_code import heading, pairs_literal
from ckptaudit.plan.plan import Plan


def emit(plan: Plan) -> str:
    """Source of the list."""
    rules = key_patterns(plan, "mmengine's revise_keys", [one_after_the_other])
    return f"{heading(plan)}# load_checkpoint(model, file, revise_keys=revise_keys)\nrevise_keys = {pairs_literal(rules)}\n"
