"""What the caller demands of a restore, and the refusal where an audit does not meet it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ckptaudit.errors import IncompatibleCheckpoint
from ckptaudit.graph.names import collapse_modules, fold_names
from ckptaudit.pipeline import INTENTS, Audit
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.comparison import Intent

_MAX_PATTERNS = 3


@dataclass(frozen=True, slots=True)
class Demand:
    """What a restore is for, and what it may lack.

    Attributes
    ----------
    intent:
        ``eval``, ``finetune`` or ``resume``.
    allow_missing:
        Names of modules or tensors of the model, or shell patterns, that may keep their values.
    min_coverage:
        Share of the model's parameters, from 0 to 1, that must be set; None leaves that to the intent.
    """

    intent: Intent
    allow_missing: tuple[str, ...]
    min_coverage: float | None

    @classmethod
    def of(cls, intent: Intent, allow_missing: Sequence[str], min_coverage: float | None) -> Demand:
        """Check the caller's arguments.

        Raises
        ------
        ValueError
            There is no such intent, or the share is none.
        TypeError
            ``allow_missing`` is one name instead of a list of them.
        """
        if intent not in INTENTS:
            raise ValueError(f"intent {intent!r} is none of {', '.join(INTENTS)}")
        if isinstance(allow_missing, str):
            raise TypeError(f"allow_missing is a list of names: [{allow_missing!r}]")
        if min_coverage is not None and not 0 <= min_coverage <= 1:
            raise ValueError(f"min_coverage {min_coverage!r} is no share between 0 and 1")
        return cls(intent, tuple(allow_missing), min_coverage)

    def check(self, audit: Audit) -> None:
        """Raise IncompatibleCheckpoint unless the audit meets the demand."""
        matched, total = audit.coverage.parameters
        if self.min_coverage is not None and matched < self.min_coverage * total:
            from ckptaudit.report._words import share  # of use to a refusal alone

            raise refusal(audit, f"Only {share(matched, total)} of the parameters would be set; {self.min_coverage:.1%} are demanded.")
        if not audit.verdict.fit:
            raise refusal(audit)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one tensor that a plan sets.

    Attributes
    ----------
    name:
        What the model calls it.
    same:
        Whether it holds what the plan gives, in its own dtype.
    lost:
        How many of the plan's values this dtype does not hold.
    dtype:
        The dtype.
    """

    name: str
    same: bool
    lost: int
    dtype: str


def beyond_dtype(audit: Audit, name: str, lost: int, dtype: str) -> IncompatibleCheckpoint:
    """The error for values that a conversion to the model's dtype makes infinite, or cuts off."""
    return refusal(audit, f"{lost:,} values of `{name}` are beyond what {dtype} holds.")


def refusal(audit: Audit, remark: str = "", *, findings: bool = True) -> IncompatibleCheckpoint:
    """The error to raise, with the short report as its text; without findings where they would speak of a file that there is none of."""
    from ckptaudit.report._short import short_report

    return IncompatibleCheckpoint(short_report(audit if findings else replace(audit, findings=()), remark), audit)


def never_set(audit: Audit, unset: Collection[str], everything: Collection[str]) -> IncompatibleCheckpoint:
    """The error at the end of a guarded block, for tensors that nothing has set in it."""
    shown = f": {few_names(unset, everything)}" if unset else ""
    remark = f"{len(unset):,} of the model's {len(everything):,} tensors were never set inside the guard{shown}."
    return refusal(audit, remark, findings=not unset)


def few_names(names: Iterable[str], everything: Iterable[str]) -> str:
    """Names of tensors as a few patterns, for a sentence."""
    patterns = fold_names(collapse_modules(names, everything))
    return ", ".join(f"`{pattern}`" for pattern in patterns[:_MAX_PATTERNS]) + (" …" if len(patterns) > _MAX_PATTERNS else "")
