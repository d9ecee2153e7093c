"""BatchNorm's batch counters are on one side only, which changes nothing in eval mode."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("num-batches-tracked", "Batch counters are on one side only", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per side that has counters the other lacks."""
    for side, names in (("model", comparison.alignment.unmatched_target), ("file", comparison.alignment.unmatched_source)):
        counters = tuple(name for name in names if leaf(name) == "num_batches_tracked")
        if counters:
            yield RULE.finding(
                f"{len(counters)} num_batches_tracked counters are only in the {side} (torch has them since 0.4.1): harmless.",
                checkpoint=counters if side == "file" else (),
                model=counters if side == "model" else (),
            )
