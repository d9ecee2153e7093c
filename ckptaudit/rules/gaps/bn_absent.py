"""BatchNorm layers whose weights are in the file and whose running statistics are not."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf, parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

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
        here = {parent(name) for name in graph.tensors if leaf(name) in _STATISTICS} & {parent(name) for name in pairs}
        yield RULE.finding(
            f"{layers} of {plural(len(here), 'BatchNorm layer')} {'has' if layers == 1 else 'have'} weights in the file and no statistics"
            + (": parameters were saved, buffers were not." if layers == len(here) else ".")
            + " In eval mode they would normalise by mean 0 and variance 1.",
            model=names,
            severity="warning" if comparison.intent == "finetune" else "error",
            fix="save model.state_dict() instead of the parameters, or recompute the statistics over training data",
            status="partial",
            phrase="BatchNorm statistics absent",
        )
