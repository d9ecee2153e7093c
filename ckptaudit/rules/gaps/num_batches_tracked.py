"""BatchNorm's batch counters are on one side only, which changes nothing in eval mode."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf, parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are

RULE = Rule("num-batches-tracked", "Batch counters are on one side only", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per side that lacks only the counters of layers that it has; layers it lacks are found elsewhere."""
    if comparison.checkpoint.framework == "onnx":
        return  # it has none, since it computes none
    gone = {parent(name) for name in (*comparison.missing, *comparison.unexpected)}
    for side, names in (("model", comparison.alignment.unmatched_target), ("file", comparison.alignment.unmatched_source)):
        counters = tuple(name for name in names if leaf(name) == "num_batches_tracked" and parent(name) not in gone)
        if counters:
            yield RULE.finding(
                f"{are(len(counters), 'num_batches_tracked counter')} only in the {side} (torch has them since 0.4.1): harmless.",
                checkpoint=counters if side == "file" else (),
                model=counters if side == "model" else (),
            )
