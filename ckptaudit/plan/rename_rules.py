"""Say a rename of three hundred keys in three rules, and prove that the rules do exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from ckptaudit.lazily import compiled_when_used
from ckptaudit.plan.name_trie import smallest_rules
from ckptaudit.records import dataclass

#: What may stand in a rule: literal text, whole numbers, names to leave out, the end. No pattern of these takes long to match.
_LITERAL = r"(?:\\\W|[^\\()\[\]{}*+?|.^$])"
_GRAMMAR = compiled_when_used(rf"\^(?:{_LITERAL}|\(\\d\+\)(?!\())*(?:\(\?!(?:{_LITERAL}|\\d\+(?!\\d)|\||\$)*\))?\$?")
_REPLACEMENT = compiled_when_used(r"(?:[^\\]|\\\\|\\g<([1-9]\d?)>)*")
_REFERENCE = compiled_when_used(r"\\g<([1-9]\d?)>")
_HEAD = compiled_when_used(rf"\^({_LITERAL}*)")


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
        """Whether it says no more than rules of a plan may: anchored, literal text, whole numbers, and exceptions at the end."""
        if not _GRAMMAR.fullmatch(self.pattern) or not _REPLACEMENT.fullmatch(self.replacement):
            return False
        return max(map(int, _REFERENCE.findall(self.replacement)), default=0) <= self.pattern.count(r"(\d+)")


@dataclass(frozen=True)
class Renaming:
    """Rules in their order; the first that matches a name counts, and a name that none matches stays."""

    rules: tuple[RenameRule, ...]

    def __call__(self, name: str) -> str:
        """The name that a tensor gets."""
        found, renamed = len(self.rules), name
        for length in self._lengths:
            if length > len(name):
                break
            for i in self._by_head.get(name[:length], ()):
                if i >= found:
                    break
                new = self._applied(i, name, length)
                if new is not None:
                    found, renamed = i, new
        return renamed

    def _applied(self, i: int, name: str, length: int) -> str | None:
        rule = self.rules[i]
        plain = self._plain.get(i) if not name.endswith("\n") else None  # before a last newline "$" matches, too
        if plain is not None:  # literal text alone: no regular expression need be compiled for each of ten thousand names
            whole, replacement = plain
            return None if whole and len(name) > length else replacement + name[length:]
        compiled = self._compiled.get(i)
        if compiled is None:  # not re.subn itself, whose cache of patterns a thousand rules would overflow for every name
            compiled = self._compiled[i] = re.compile(rule.pattern)
        renamed, count = compiled.subn(rule.replacement, name, count=1)
        return renamed if count else None

    @cached_property
    def _compiled(self) -> dict[int, re.Pattern[str]]:
        return {}

    @cached_property
    def _heads(self) -> Sequence[tuple[str, str]]:
        """For every rule the literal text with which a name must begin, and what of the pattern follows it."""
        heads = []
        for rule in self.rules:
            match = _HEAD.match(rule.pattern) if rule.well_formed else None
            heads.append((re.sub(r"(?s)\\(.)", r"\1", match[1]), rule.pattern[match.end() :]) if match else ("", rule.pattern))
        return heads

    @cached_property
    def _plain(self) -> Mapping[int, tuple[bool, str]]:
        """Rules of literal text: whether that is the whole name, and what replaces it."""
        return {
            i: (rest == "$", self.rules[i].replacement.replace("\\\\", "\\"))
            for i, (_, rest) in enumerate(self._heads)
            if rest in ("", "$")
        }

    @cached_property
    def _by_head(self) -> Mapping[str, list[int]]:
        """Rules by their literal text: most names are then tried against few rules."""
        heads: dict[str, list[int]] = {}
        for i, (head, _) in enumerate(self._heads):
            heads.setdefault(head, []).append(i)
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
    if (prefix := _prefix_of_all(wanted)) and (rule := RenameRule(f"^{re.escape(prefix)}", "")).well_formed:
        return (rule,)
    for rules in smallest_rules(wanted):
        found = tuple(RenameRule(pattern, replacement) for pattern, replacement in rules)
        if all(rule.well_formed for rule in found) and renames_exactly(found, wanted):
            return found
    told = (old for old, new in wanted.items() if old != new or old.endswith("\n"))  # before a last newline "$" matches, too
    single = sorted(told, key=len, reverse=True)
    return tuple(RenameRule(f"^{re.escape(old)}$", wanted[old].replace("\\", "\\\\")) for old in single)


def _prefix_of_all(wanted: Mapping[str, str]) -> str:
    """Whole segments that every name begins with and loses, which nothing shorter than one rule says; ``""`` where there are none."""
    old, new = next(iter(wanted.items()))
    prefix = old.removesuffix(new)
    if not new or prefix == old or prefix[-1:] not in (".", "/"):
        return ""
    return prefix if all(old == prefix + new for old, new in wanted.items()) else ""


def renames_exactly(rules: tuple[RenameRule, ...], wanted: Mapping[str, str]) -> bool:
    """Whether the rules turn every name into the wanted one."""
    renaming = Renaming(rules)
    return all(renaming(old) == new for old, new in wanted.items())
