"""Running statistics that are NaN, infinite, or a negative variance."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("bn-invalid", "BatchNorm statistics are not numbers", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for non-finite statistics, one for negative variances."""
    for bad, what, phrase in (
        (
            [layer for layer in comparison.batch_norm if not layer.finite],
            "NaN or infinite running statistics",
            "NaN in BatchNorm statistics",
        ),
        ([layer for layer in comparison.batch_norm if layer.negative], "a negative running variance", "negative BatchNorm variance"),
    ):
        if bad:
            yield RULE.finding(
                f"{len(bad)} of {plural(len(comparison.batch_norm), 'BatchNorm layer')} {'holds' if len(bad) == 1 else 'hold'} {what}, "
                f"the first is `{bad[0].path}`: what follows it is NaN in eval mode.",
                checkpoint=tuple(name for layer in bad for name in layer.names),
                fix="the training diverged, or the file is damaged: take an earlier checkpoint",
                status="incompatible",
                phrase=phrase,
            )
