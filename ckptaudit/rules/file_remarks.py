"""What a reader noticed about the file itself."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("file-remarks", "Something is odd about the file", "warning", "file")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per remark of the reader."""
    for remark in comparison.checkpoint.remarks:
        yield RULE.finding(remark)
