"""What a report is about: one audit, or the audits of several contracts side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.graph import Origin
    from ckptaudit.pipeline import Audit
    from ckptaudit.rules import Finding
    from ckptaudit.verdict import Bar


@dataclass(frozen=True, slots=True)
class Entry:
    """One audit of a report, or the reason why there is none.

    Attributes
    ----------
    title:
        What the reader calls it: the contract's name, or the two sides.
    audit:
        The outcome; None where it could not be audited.
    error:
        Why it could not be audited, in one line.
    location:
        The line of configuration that asks for it. Findings about no line of the project's own code point there.
    remark:
        A sentence that comes with the verdict, such as "broken by this change".
    holds:
        Whether it passes, where that is decided by more than the verdict.
    """

    title: str
    audit: Audit | None = None
    error: str = ""
    location: Origin | None = None
    remark: str = ""
    holds: bool | None = None

    @classmethod
    def of(cls, audit: Audit, fail_on: Bar | None = None) -> Entry:
        """An audit that nobody gave a name; it passes below ``fail_on``, or without one where it is fit."""
        holds, fit = audit.verdict.passes(fail_on), audit.verdict.fit
        remark = "" if holds == fit else f"{'Passes' if holds else 'Fails'} because of --fail-on {fail_on}."
        return cls(f"{audit.checkpoint.path.name} → {audit.model.arch}", audit, remark=remark, holds=holds)

    @property
    def passed(self) -> bool:
        """Whether it was audited and holds; without a word to the contrary, whether it is fit for its intent."""
        return self.audit is not None and (self.audit.verdict.fit if self.holds is None else self.holds)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found and is not allowed."""
        return tuple(finding for finding in self.audit.findings if not finding.allowed) if self.audit else ()

    @property
    def allowed(self) -> tuple[Finding, ...]:
        """What was found and is allowed, each with its reason."""
        return tuple(finding for finding in self.audit.findings if finding.allowed) if self.audit else ()

    @property
    def summary(self) -> str:
        """The diagnosis in one sentence, or why there is none."""
        return self.audit.verdict.summary if self.audit else f"Could not be audited: {self.error}"

    @property
    def status(self) -> str:
        """The verdict's status, or ``not audited``."""
        return self.audit.verdict.status if self.audit else "not audited"
