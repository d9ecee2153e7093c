"""Layers of an export whose values are not those of the checkpoint that it is said to come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

if TYPE_CHECKING:
    from ckptaudit.align.refolding import LayerValues

RULE = Rule("other-values", "An export holds other values", "error", "cause")

_LISTED = 5


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for the layers that differ, or one that says that none does; and one for those that could not be compared."""
    if comparison.twin is None or comparison.topology is None:
        return
    differing = [layer for layer in comparison.twin if not layer.agrees]
    agreeing = [layer for layer in comparison.twin if layer.agrees]
    folded = sum(pair.folded for pair in comparison.topology.layers)
    how = ", BatchNorm folded once more," if folded else ""
    within = f"within {comparison.twin[0].tolerance:g} of a tensor's largest value" if comparison.twin else ""
    if differing:
        yield RULE.finding(
            f"{plural(len(differing), 'layer')} of {len(comparison.twin)} {'hold' if len(differing) > 1 else 'holds'} other values than "
            f"the checkpoint{how} gives: {_listed(differing)}. The other {len(agreeing)} agree {within}.",
            checkpoint=[name for layer in differing for name in layer.names],
            model=[name for layer in differing for name in layer.targets],
            confidence=0.98,
            fix="export the checkpoint anew, or find the checkpoint that was exported",
            status="incompatible",
            phrase=f"{plural(len(differing), 'layer')} with other values",
        )
    elif agreeing:
        worst = max(layer.difference for layer in agreeing)
        compared = f"All {len(agreeing)} layers that were compared hold" if len(agreeing) > 1 else "The one layer that was compared holds"
        yield RULE.finding(
            f"{compared} the values of the checkpoint{how} {within} (the most: {worst:.1g}).",
            severity="note",
            confidence=0.99,
        )
    left = len(comparison.topology.layers) - len(comparison.twin)
    if left:
        yield RULE.finding(
            f"The values of {plural(left, 'layer')} were not compared: the checkpoint does not have them under names that are sure, or "
            "their values cannot be read.",
            severity="warning",
            confidence=1.0,
        )


def _listed(layers: list[LayerValues]) -> str:
    told = []
    for layer in layers[:_LISTED]:
        off = f"off by {layer.difference:.2g}" if math.isfinite(layer.difference) else "no numbers"
        told.append(f"`{layer.layer}` ({off}{f'; its weight is that of `{layer.holds}`' if layer.holds else ''})")
    more = len(layers) - _LISTED
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")
