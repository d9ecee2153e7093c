"""Averaged weights (EMA, SWA) stand beside the raw ones: two different models in one file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckptaudit.graph.names import leaf, split_name
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("ema", "Averaged weights beside the raw ones", "note", "cause")

_AVERAGED = re.compile(r"^(ema|.*_ema|ema_.*|ema[A-Z].*|averaged?_model|shadow.*|model_ema.*|momentum_encoder|teacher)$")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for averaged copies among the names, for EMA branches, and for the counter that SWA leaves."""
    checkpoint = comparison.checkpoint
    copies = tuple(name for name in comparison.unexpected if any(_AVERAGED.match(segment) for segment in split_name(name)))
    if copies:
        yield RULE.finding(
            f"{len(copies)} tensors are an averaged copy (`{copies[0]}`) beside the raw weights; the raw ones are taken.",
            checkpoint=copies,
            confidence=0.9,
            fix="evaluate both: the averaged weights are usually the better ones",
            status="remappable",
        )
    averaged = [branch.name for branch in checkpoint.branches if branch.role == "ema" and branch.name != checkpoint.branch.name]
    if averaged:
        names = ", ".join(f"`{name}`" for name in averaged)
        yield RULE.finding(
            f"The file also holds averaged weights ({names}); branch `{checkpoint.branch.name}` was audited.",
            fix=f"--branch {averaged[0]} audits the averaged weights",
        )
    counters = tuple(name for name in checkpoint.graph.tensors if leaf(name) == "n_averaged")
    if counters:
        yield RULE.finding(
            "The weights are an average over training steps (`n_averaged`): "
            "BatchNorm statistics belong to the last step unless they were recomputed.",
            checkpoint=counters,
            severity="warning" if comparison.batch_norm else "note",
            confidence=0.7,
            fix="torch.optim.swa_utils.update_bn over training data",
            status="remappable",
        )
