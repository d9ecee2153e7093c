"""Say a rename of three hundred keys in three rules, and prove that the rules do exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ckptaudit.plan.name_trie import smallest_rules

#: What may stand in a rule: literal text, whole numbers, names to leave out, the end. No pattern of these takes long to match.
_LITERAL = r"(?:\\[^\w\s]|\\ |[^\\()\[\]{}*+?|.^$])"
_GRAMMAR = re.compile(rf"\^(?:{_LITERAL}|\(\\d\+\)(?!\())*(?:\(\?!(?:{_LITERAL}|\\d\+(?!\\d)|\||\$)*\))?\$?")
_REPLACEMENT = re.compile(r"(?:[^\\]|\\\\|\\g<([1-9]\d?)>)*")
_REFERENCE = re.compile(r"\\g<([1-9]\d?)>")
_HEAD = re.compile(rf"\^({_LITERAL}*)")


@dataclass(frozen=True, slots=True)
class RenameRule:
    """A regular expression over whole leading segments, and what replaces its match (``re.sub`` syntax)."""

    pattern: str
    replacement: str

    def apply(self, name: str) -> str | None:
        """The renamed name, or ``None`` when the rule does not concern it."""
        renamed, count = re.subn(self.pattern, self.replacement, name, count=1)
        return renamed if count else None

    @property
    def well_formed(self) -> bool:
        """Whether it says no more than rules of a plan may: anchored, literal text, ``(\\d+)``, and ``(?!…)`` for exceptions."""
        if not _GRAMMAR.fullmatch(self.pattern) or not _REPLACEMENT.fullmatch(self.replacement):
            return False
        return max(map(int, _REFERENCE.findall(self.replacement)), default=0) <= re.compile(self.pattern).groups


@dataclass(frozen=True)
class Renaming:
    """Rules in their order; the first that matches a name counts, and a name that none matches stays."""

    rules: tuple[RenameRule, ...]

    def __call__(self, name: str) -> str:
        """The name that a tensor gets."""
        found = len(self.rules)
        for length in self._lengths:
            if length > len(name):
                break
            for i in self._by_head.get(name[:length], ()):
                if i >= found:
                    break
                if self._compiled[i].match(name):
                    found = i
        return name if found == len(self.rules) else self._compiled[found].sub(self.rules[found].replacement, name, count=1)

    @cached_property
    def _compiled(self) -> Sequence[re.Pattern[str]]:
        # Not re.sub itself, whose cache of patterns a thousand rules would overflow again for every name.
        return [re.compile(rule.pattern) for rule in self.rules]

    @cached_property
    def _by_head(self) -> Mapping[str, list[int]]:
        """The literal text with which a name must begin → rules: most names are then tried against few rules."""
        heads: dict[str, list[int]] = {}
        for i, rule in enumerate(self.rules):
            match = _HEAD.match(rule.pattern)
            heads.setdefault(re.sub(r"\\(.)", r"\1", match[1]) if match and rule.well_formed else "", []).append(i)
        return heads

    @cached_property
    def _lengths(self) -> Sequence[int]:
        return sorted({len(head) for head in self._by_head})


def rename_rules(renames: Mapping[str, str], others: Iterable[str] = ()) -> tuple[RenameRule, ...]:
    """Find few rules that turn every key of ``renames`` into its value and leave ``others`` as they are.

    Rules cut names at whole segments only: a rule replaces leading segments, with numbers that both sides carry generalised.
    Among all such rules, longer ones before shorter ones, the fewest are found (see :mod:`ckptaudit.plan.name_trie`). The result
    is then tried on every name; if it were not exact, one rule per name would be.

    Parameters
    ----------
    renames:
        Old names to new ones; those that stay may be among them. Two old names never have one new name.
    others:
        Further names of the same file, which no rule may change (tensors that are dropped, or set by other steps).
    """
    wanted = {name: name for name in others} | dict(renames)
    if all(old == new for old, new in wanted.items()):
        return ()
    for rules in smallest_rules(wanted):
        found = tuple(RenameRule(pattern, replacement) for pattern, replacement in rules)
        if all(rule.well_formed for rule in found) and renames_exactly(found, wanted):
            return found
    return tuple(RenameRule(f"^{re.escape(old)}$", new.replace("\\", "\\\\")) for old, new in wanted.items() if old != new)


def renames_exactly(rules: tuple[RenameRule, ...], wanted: Mapping[str, str]) -> bool:
    """Whether the rules turn every name into the wanted one."""
    renaming = Renaming(rules)
    return all(renaming(old) == new for old, new in wanted.items())
