"""Averaged weights (EMA, SWA) stand beside the raw ones: two different models in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckptaudit.graph.names import leaf, split_name
from ckptaudit.lazily import compiled_when_used
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are, quoted

RULE = Rule("ema", "Averaged weights beside the raw ones", "note", "cause")

#: Segments that name a copy. Other words may begin so (``shadow_branch``): the shapes must agree as well.
_AVERAGED = compiled_when_used(r"^(ema|.*_ema|ema_.*|ema[A-Z].*|averaged?_model|shadow.*|model_ema.*|momentum_encoder|teacher)$")

#: Share of the copy's tensors that must have the shape of a raw one.
_ALIKE = 0.9


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for averaged copies among the names, for EMA branches, and for the counter that SWA leaves."""
    checkpoint = comparison.checkpoint
    copies = _averaged_copies(comparison)
    if copies:
        yield RULE.finding(
            f"{are(len(copies), 'tensor')} an averaged copy (`{copies[0]}` …) beside the raw weights; the raw ones are taken.",
            checkpoint=copies,
            confidence=0.9,
            fix="evaluate both: the averaged weights are usually the better ones",
            status="remappable",
        )
    averaged = [branch.name for branch in checkpoint.branches if branch.role == "ema" and branch.name != checkpoint.branch.name]
    if averaged and checkpoint.format != "state-dict":
        yield RULE.finding(
            f"The file also holds averaged weights ({quoted(averaged)}); "
            + (f"branch `{checkpoint.branch.name}` was audited." if checkpoint.branch.name else "the top level was audited."),
            fix=f"--branch {averaged[0]} audits the averaged weights, which are usually the better ones",
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


def _averaged_copies(comparison: Comparison) -> tuple[str, ...]:
    """Tensors of no use to the model that are named as averages and have the shapes of tensors that are used."""
    named = tuple(name for name in comparison.unexpected if any(_AVERAGED.match(segment) for segment in split_name(name)))
    tensors = comparison.checkpoint.graph.tensors
    raw = Counter(tensors[name].shape for name in (*comparison.used, *comparison.mismatched.values()))
    alike = (Counter(tensors[name].shape for name in named) & raw).total()
    return named if named and alike >= _ALIKE * len(named) else ()
