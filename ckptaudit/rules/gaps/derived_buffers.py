"""Buffers that the model computes from its configuration are on one side only."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf, parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are

RULE = Rule("derived-buffers", "Derived buffers are on one side only", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for index tables, position ids and the like; batch counters have a rule of their own."""
    derived = DERIVED_BUFFERS - {"num_batches_tracked"}

    def alone(name: str) -> bool:
        """Whether the buffer is what differs, not the module that it belongs to."""
        return leaf(name) in derived and parent(name) in comparison.paired_modules

    absent = tuple(filter(alone, comparison.alignment.unmatched_target))
    extra = tuple(filter(alone, comparison.alignment.unmatched_source))
    if absent or extra:
        yield RULE.finding(
            f"{are(len(absent) + len(extra), 'buffer')} only on one side; the model derives such buffers from its configuration: harmless.",
            checkpoint=extra,
            model=absent,
            status="remappable" if extra else "compatible",
        )
