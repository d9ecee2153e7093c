"""Say a rename of three hundred keys in three rules, and prove that the rules do exactly that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ckptaudit.graph.names import split_name


@dataclass(frozen=True, slots=True)
class RenameRule:
    """A regular expression over whole leading segments, and what replaces its match (``re.sub`` syntax)."""

    pattern: str
    replacement: str

    def apply(self, name: str) -> str | None:
        """The renamed name, or ``None`` when the rule does not concern it."""
        renamed, count = re.subn(self.pattern, self.replacement, name, count=1)
        return renamed if count else None


def rename_rules(renames: Mapping[str, str]) -> tuple[RenameRule, ...]:
    """Find few rules that turn every key of ``renames`` into its value; the first rule that matches a name counts.

    Each rename is cut at the longest run of trailing segments that both names share; what remains on the left is a rule,
    with numbers that both sides carry generalised. Rules that would change a name wrongly are split into more special ones,
    down to one rule per name, so the result is exact for the names given. Names that stay as they are need no rule unless
    a rule would touch them; then none of that rule's generality is used.
    """
    changed = {old: new for old, new in renames.items() if old != new}
    if not changed:
        return ()
    kept = [old for old, new in renames.items() if old == new]
    for make in (_general_rule, _prefix_rule, _exact_rule):
        rules = sorted({make(old, new) for old, new in changed.items()}, key=lambda rule: (-len(rule.pattern), rule.pattern))
        rules = _without_redundant(rules, changed)
        if all(_rename(name, rules) == new for name, new in changed.items()) and all(_rename(name, rules) == name for name in kept):
            return tuple(rules)
    raise AssertionError("one rule per name is always exact")


def _rename(name: str, rules: list[RenameRule]) -> str:
    return next((renamed for rule in rules if (renamed := rule.apply(name)) is not None), name)


def _without_redundant(rules: list[RenameRule], changed: Mapping[str, str]) -> list[RenameRule]:
    """Leave out a special rule whose names a more general one renames in the same way."""
    if len(rules) > 64:  # quadratic, and a plan of so many rules is not read by a person anyway
        return rules
    kept = list(rules)
    for rule in rules:
        fewer = [other for other in kept if other is not rule]
        if fewer and all(_rename(old, fewer) == new for old, new in changed.items()):
            kept = fewer
    return kept


def _cut(old: str, new: str) -> tuple[str, str]:
    """What is left of both names when their common trailing segments are removed, separators included."""
    a, b = split_name(old), split_name(new)
    shared = 0
    while shared < min(len(a), len(b)) and a[-1 - shared] == b[-1 - shared]:
        shared += 1
    end = sum(len(segment) + 1 for segment in a[len(a) - shared :]) - 1 if shared else 0
    if shared in (0, len(a), len(b)):
        # Either nothing is shared, or one name is a tail of the other: only a separator or nothing stands before it.
        return (old[: len(old) - end], new[: len(new) - end]) if shared else (old, new)
    return old[: len(old) - end], new[: len(new) - end]


def _general_rule(old: str, new: str) -> RenameRule:
    left, right = _cut(old, new)
    numbers: list[str] = []
    pattern = []
    for token in re.split(r"(?<![^./])(\d+)(?![^./])", left):
        if token.isdecimal():
            numbers.append(token)
            pattern.append(r"(\d+)")
        else:
            pattern.append(re.escape(token))
    replacement = []
    remaining = list(enumerate(numbers, 1))
    for token in re.split(r"(?<![^./])(\d+)(?![^./])", right):
        found = next(((i, n) for i, n in remaining if token == n), None) if token.isdecimal() else None
        if found:
            remaining.remove(found)
            replacement.append(rf"\g<{found[0]}>")
        else:
            replacement.append(token.replace("\\", r"\\"))
    if remaining:  # a number of the old name that the new one lacks must stay a number, or the rule would merge names
        return _prefix_rule(old, new)
    return RenameRule("^" + "".join(pattern), "".join(replacement))


def _prefix_rule(old: str, new: str) -> RenameRule:
    left, right = _cut(old, new)
    return RenameRule("^" + re.escape(left), right.replace("\\", r"\\"))


def _exact_rule(old: str, new: str) -> RenameRule:
    return RenameRule(f"^{re.escape(old)}$", new.replace("\\", r"\\"))
