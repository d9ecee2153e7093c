"""Rules for tools that substitute in every key and cannot do more: found such that every way of going through them gives the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ckptaudit.errors import PlanError
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.rename_rules import RenameRule

_Way = Callable[[Sequence[tuple[re.Pattern[str], str]], str], str]


def key_patterns(plan: Plan, form: str, ways: Sequence[_Way]) -> tuple[RenameRule, ...]:
    """The plan's rules, or one for every name, such that each way of applying them renames exactly as the plan does.

    Raises
    ------
    PlanError
        A step does more than rename, a dropped tensor would take a name of the model, or the names change places.
    """
    if plan.special:
        step = plan.special[0]
        does = ", ".join(op.spelled() for op in step.ops) or "a second use of one tensor"
        raise PlanError(f"{form} renames keys and nothing else, and {step.target} needs {does}")
    targets = {step.target for step in plan.steps}
    if lost := [name for name in plan.dropped if name in targets]:
        raise PlanError(f"{form} drops no keys, and {lost[0]} of the file would stand for the model's")
    wanted = {step.sources[0]: step.target for step in plan.steps} | {name: name for name in plan.dropped}
    single = tuple(RenameRule(f"^{re.escape(old)}$", new.replace("\\", "\\\\")) for old, new in wanted.items() if old != new)
    for rules in (plan.rules, single):
        compiled = [(re.compile(rule.pattern), rule.replacement) for rule in rules]
        if all(way(compiled, old) == new for way in ways for old, new in wanted.items()):
            return rules
    raise PlanError(f"{form} goes through its patterns one after the other, and these names change places")


def one_after_the_other(rules: Sequence[tuple[re.Pattern[str], str]], name: str) -> str:
    """Every pattern is substituted in what the ones before left."""
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name)
    return name


def first_match(rules: Sequence[tuple[re.Pattern[str], str]], name: str) -> str:
    """The first pattern that matches is substituted, and the rest not tried."""
    for pattern, replacement in rules:
        renamed, found = pattern.subn(replacement, name)
        if found:
            return renamed
    return name
