"""What is allowed: findings of a project, each with a reason that every report shows, and gaps of a single call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from ckptaudit.errors import UsageError
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import is_under
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.finding import Finding, Rule


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is allowed.

    Attributes
    ----------
    rule:
        Id of the rule whose findings are meant.
    reason:
        Why, for everyone who reads a report.
    names:
        Shell patterns; every tensor that a finding is about must match one. Empty: whatever it is about.
    """

    rule: str
    reason: str
    names: tuple[str, ...] = ()

    def covers(self, finding: Finding) -> bool:
        """Whether all of a finding is allowed; one that is about more than was allowed is not."""
        if finding.rule != self.rule:
            return False
        concerned = (*finding.model, *finding.checkpoint)
        return not self.names or (bool(concerned) and all(any(fnmatchcase(name, p) for p in self.names) for name in concerned))


def excuse(findings: Sequence[Finding], allowances: Sequence[Allowance]) -> list[Finding]:
    """The findings, those that are allowed as notes which stand in the way of no verdict and carry the reason."""
    reasons = [next((a.reason for a in allowances if a.covers(finding)), None) for finding in findings]
    return [finding if reason is None else as_allowed(finding, reason) for finding, reason in zip(findings, reasons, strict=True)]


def as_allowed(finding: Finding, reason: str) -> Finding:
    """The finding as a note that stands in the way of no verdict and carries the reason."""
    return replace(finding, severity="note", status="compatible", phrase=f"{finding.rule} allowed", retry=(), allowed=reason)


#: Not a rule of the comparison: what became of the allowances themselves.
UNUSED = Rule("unused-allowance", "Something is allowed that is not found", "warning", "file")


def means(word: str, name: str) -> bool:
    """Whether what a caller lets be missing (a module, a tensor, or a shell pattern of either) means the tensor ``name``."""
    return bool(word) and (is_under(name, word) or fnmatchcase(name, word))


def refuse_what_means_nothing(words: Iterable[str], model: Collection[str]) -> None:
    """Refuse what a caller lets be missing and the model does not have: a slip would stand there as if it allowed something.

    Parameters
    ----------
    words:
        Modules, tensors or shell patterns.
    model:
        Names of the model's tensors.

    Raises
    ------
    UsageError
        A word means no tensor of the model.
    """
    for word in words:
        if not any(means(word, name) for name in model):
            from ckptaudit.arch.suggest import did_you_mean

            hint = did_you_mean(word, {*model, *module_paths(list(model))})
            raise UsageError(f"allow_missing: no tensor of the model is {word!r} or lies below it{hint}")
