"""The file holds an optimizer's state and no model."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("optimizer-file", "An optimizer's state, not a model's", "error", "file")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when the branch under audit is an optimizer's."""
    if comparison.checkpoint.branch.role != "optimizer":
        return
    others = [branch.name for branch in comparison.checkpoint.branches if branch.role in ("model", "ema")]
    yield RULE.finding(
        "This is the state of an optimizer (moments and steps per parameter)"
        + (f"; the weights are in branch {', '.join(others)}." if others else "; the file holds no weights."),
        checkpoint=comparison.unexpected,
        model=(*comparison.missing, *comparison.mismatched),
        retry=[("--branch", others[0])] if others else (),
        fix=f"audit branch {others[0]}" if others else "take the file that was saved beside it (model.pth, pytorch_model.bin)",
        status="incompatible",
        phrase="an optimizer's state, not a model's",
    )
