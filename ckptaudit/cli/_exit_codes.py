"""What the process ends with, and which verdict means which."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit
    from ckptaudit.verdict import Bar

FIT, NOT_FIT, COULD_NOT_AUDIT, INTERRUPTED, TERMINATED = 0, 1, 3, 130, 143

#: ``--fail-on``: see :data:`ckptaudit.verdict.Bar`, which loads too much to be imported for ``--help``.
BARS = ("remappable", "partial", "incompatible", "never")


def exit_code(outcome: Audit, fail_on: Bar | None = None) -> int:
    """0 or 1 for an audit that ran."""
    return FIT if outcome.verdict.passes(fail_on) else NOT_FIT
