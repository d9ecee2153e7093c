"""Tensors whose names correspond and whose shapes do not, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.grouping import by_cause

RULE = Rule("shape-mismatch", "Shapes differ", "error", "symptom")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place, with the first pair of shapes as the example."""
    names = comparison.unexplained(comparison.mismatched, "model")
    for place, group in by_cause(names, comparison.model.graph.tensors):
        in_file, in_model = comparison.shapes(group[0])
        yield RULE.finding(
            f"{len(group)} tensor{'s have' if len(group) > 1 else ' has'} another shape{f' in `{place}`' if place else ''}: "
            f"`{group[0]}` is {list(in_file)} in the file and {list(in_model)} in the model.",
            checkpoint=tuple(comparison.mismatched[name] for name in group),
            model=group,
            fix="build the model with the arguments it was trained with",
            status="incompatible",
            phrase=f"{len(group)} shape{'s' if len(group) > 1 else ''} differ{'' if len(group) > 1 else 's'}",
        )
