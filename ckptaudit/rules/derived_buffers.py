"""Buffers that the model computes from its configuration are on one side only."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("derived-buffers", "Derived buffers are on one side only", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for index tables, position ids and the like; batch counters have a rule of their own."""
    derived = DERIVED_BUFFERS - {"num_batches_tracked"}
    absent = tuple(name for name in comparison.alignment.unmatched_target if leaf(name) in derived)
    extra = tuple(name for name in comparison.alignment.unmatched_source if leaf(name) in derived)
    if absent or extra:
        yield RULE.finding(
            f"{len(absent) + len(extra)} buffers that the model derives from its configuration are on one side only: harmless.",
            checkpoint=extra,
            model=absent,
            status="remappable" if extra else "compatible",
        )
