"""Layers of the file that the model has no place for, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.heads import in_head
from ckptaudit.graph.names import split_name
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.grouping import by_cause

RULE = Rule("unexpected-layers", "Layers of the file have no place in the model", "warning", "symptom")

#: State that trainers save inside the model and that inference does not use.
_TRAINING_STATE = frozenset(
    {"criterion", "loss", "loss_fn", "loss_function", "metric", "metrics", "pos_weight", "discriminator", "queue", "queue_ptr"}
)


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place of the file; dropped training state and heads are harmless, dropped layers are not."""
    unexpected = comparison.unexplained(comparison.unexpected, "checkpoint")
    graph = comparison.checkpoint.graph
    for place, names in by_cause(unexpected, graph.tensors):
        training_state = all(_TRAINING_STATE & set(split_name(name)) for name in names)
        head = all(in_head(name, graph) for name in names)
        harmless = training_state or head
        what = "training state" if training_state else "the file's head" if head else "layers that the model does not have"
        yield RULE.finding(
            f"{len(names)} tensor{'s' if len(names) > 1 else ''} of the file {f'in `{place}` ' if place else ''}would be dropped: {what}.",
            checkpoint=names,
            severity="note" if harmless else "warning",
            fix="" if harmless else "a network that was trained with these layers gives other outputs without them",
            status="remappable" if harmless else "partial",
            phrase="" if harmless else f"{place or f'{len(names)} tensors'} of the file unused",
        )
