"""What the process ends with, and which verdict means which."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit

FIT, NOT_FIT, COULD_NOT_AUDIT, INTERRUPTED = 0, 1, 3, 130

#: ``--fail-on``: the verdict from which on the exit code is 1; without it, whatever does not serve the intent.
BARS = ("remappable", "partial", "incompatible", "never")


def exit_code(outcome: Audit, fail_on: str | None = None) -> int:
    """0 or 1 for an audit that ran."""
    from ckptaudit.rules.finding import STATUSES

    if fail_on == "never":
        return FIT
    if fail_on is not None:
        return NOT_FIT if STATUSES.index(outcome.verdict.status) >= STATUSES.index(fail_on) else FIT
    return FIT if outcome.verdict.fit else NOT_FIT
