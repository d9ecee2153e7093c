"""BatchNorm layers whose weights are in the file and whose running statistics are not."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf, parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("bn-absent", "BatchNorm statistics are absent", "error", "cause")

_STATISTICS = frozenset({"running_mean", "running_var"})


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all layers that would keep mean 0 and variance 1 under trained weights."""
    graph, pairs = comparison.model.graph, comparison.alignment.pairs
    names = []
    for name in comparison.missing:
        if leaf(name) in _STATISTICS:
            weight = graph.by_path[parent(name)].tensors.get("weight")
            if weight is not None and weight.name in pairs:
                names.append(name)
    if names:
        layers = len({parent(name) for name in names})
        yield RULE.finding(
            f"The weights of {layers} BatchNorm layer{'s are' if layers > 1 else ' is'} in the file and the running statistics are not: "
            "parameters were saved, buffers were not. In eval mode the outputs would be nonsense.",
            model=names,
            severity="warning" if comparison.intent == "finetune" else "error",
            fix="save model.state_dict() instead of the parameters, or recompute the statistics over training data",
            status="partial",
            phrase="BatchNorm statistics absent",
        )
