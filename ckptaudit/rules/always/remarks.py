"""What was noticed while the file was read or the model was built, and that no other rule is about."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("remarks", "A remark on the file or the model", "warning", "file")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per remark: of the reader about the file, of the architecture source about the model."""
    for remark in comparison.checkpoint.remarks:
        yield RULE.finding(remark)
    for remark in comparison.model.remarks:
        yield RULE.finding(remark, severity="note")
