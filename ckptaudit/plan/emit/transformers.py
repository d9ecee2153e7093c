"""``key_mapping`` for transformers' ``from_pretrained``.

Its versions differ in whether the patterns behind the first that matches are tried; what is given here means the same to both.
"""

from __future__ import annotations

from ckptaudit.plan.emit._key_patterns import first_match, key_patterns, one_after_the_other
from ckptaudit.plan.emit._torch_code import heading, raw
from ckptaudit.plan.plan import Plan


def emit(plan: Plan) -> str:
    """Source of the mapping."""
    rules = key_patterns(plan, "transformers' key_mapping", [first_match, one_after_the_other])
    rows = "".join(f"    {raw(rule.pattern)}: {raw(rule.replacement)},\n" for rule in rules)
    mapping = "{\n" + rows + "}" if rows else "{}"
    return f"{heading(plan)}# AutoModel.from_pretrained(folder, key_mapping=key_mapping)\nkey_mapping = {mapping}\n"
