"""Weights that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.kinds import BUFFER_ROLES, role_of
from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import percent, plural

RULE = Rule("non-finite-values", "Weights are NaN or infinite", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all tensors that hold such values and that the model would use; masks may hold -inf."""
    pairs = comparison.alignment.pairs
    used = {s for target, pair in pairs.items() if not comparison.model.graph.tensors[target].buffer for s in pair.sources}
    bad = {name: share for name, share in comparison.non_finite.items() if name in used and role_of(leaf(name)) not in BUFFER_ROLES}
    if bad:
        worst = max(bad, key=lambda name: bad[name])
        looked_at = "its values" if comparison.deep else "the values that were sampled"
        yield RULE.finding(
            f"{len(bad)} of {plural(len(used), 'parameter tensor')} {'holds' if len(bad) == 1 else 'hold'} NaN or infinite values"
            f", most of all `{worst}`: {percent(bad[worst])} of {looked_at}.",
            checkpoint=tuple(bad),
            fix="the training diverged, or the file is damaged: take an earlier checkpoint",
            status="incompatible",
            phrase="weights are NaN",
        )
