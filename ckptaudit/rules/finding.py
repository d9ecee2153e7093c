"""Findings and the rules that make them. Findings are data; renderers only render."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptaudit.graph import Origin

Severity = Literal["error", "warning", "note"]
Status = Literal["compatible", "remappable", "partial", "incompatible"]
Phase = Literal["file", "architecture", "cause", "symptom"]

#: From harmless to worst.
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
STATUSES: tuple[Status, ...] = ("compatible", "remappable", "partial", "incompatible")


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause, however many tensors it touches.

    Attributes
    ----------
    rule:
        Id of the rule that made it; also the name of its page in the documentation.
    severity:
        How bad it is for the intent of the audit.
    confidence:
        How sure it is, from 0 to 1.
    message:
        What is the case, with the figures.
    checkpoint, model:
        Names of the file's and the model's tensors that it is about.
    fix:
        What to do, or ``""``.
    origin:
        The line of model code that it is about, where that is known.
    status:
        The best verdict that is possible in spite of it.
    phrase:
        A few words for the one-sentence diagnosis, or ``""``.
    retry:
        Command-line options, with their values, under which the audit is worth another try.
    allowed:
        Why it is allowed, where the project allows it; then it is a note.
    """

    rule: str
    severity: Severity
    confidence: float
    message: str
    checkpoint: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    fix: str = ""
    origin: Origin | None = None
    status: Status = "compatible"
    phrase: str = ""
    retry: tuple[tuple[str, str], ...] = ()
    allowed: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "confidence": self.confidence,
            "message": self.message,
            "checkpoint": list(self.checkpoint),
            "model": list(self.model),
            "fix": self.fix,
            "origin": {"path": self.origin.path, "line": self.origin.line} if self.origin else None,
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule's module declares once, as ``RULE``.

    Attributes
    ----------
    id:
        The module's name with hyphens; also the stem of its documentation page.
    title:
        What it finds, in a few words.
    severity:
        Its findings' severity unless one says otherwise.
    phase:
        ``file`` rules look at the file, ``architecture`` rules say that it holds another network, ``cause`` rules name a
        cause for a set of tensors, ``symptom`` rules report what no cause explained. Phases run in this order.
    """

    id: str
    title: str
    severity: Severity
    phase: Phase

    def finding(
        self,
        message: str,
        *,
        checkpoint: Iterable[str] = (),
        model: Iterable[str] = (),
        severity: Severity | None = None,
        confidence: float = 1.0,
        fix: str = "",
        status: Status = "compatible",
        phrase: str = "",
        retry: Iterable[tuple[str, str]] = (),
    ) -> Finding:
        """Make a finding of this rule; see :class:`Finding` for the fields."""
        return Finding(
            self.id,
            severity or self.severity,
            confidence,
            message,
            tuple(dict.fromkeys(checkpoint)),
            tuple(dict.fromkeys(model)),
            fix,
            status=status,
            phrase=phrase,
            retry=tuple(retry),
        )
