"""Layers of the file that the model has no place for, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.heads import in_head
from ckptaudit.graph.kinds import BUFFER_ROLES, role_of
from ckptaudit.graph.names import leaf, parent, split_name
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.gaps.grouping import by_part_or_place, lost_of

RULE = Rule("unexpected-layers", "Layers of the file have no place in the model", "warning", "symptom")

#: State that trainers save inside the model and that inference does not use.
_TRAINING_STATE = frozenset(
    {"criterion", "loss", "loss_fn", "loss_function", "metric", "metrics", "pos_weight", "discriminator", "queue", "queue_ptr"}
)


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place of the file; dropped training state and heads are harmless, dropped layers are not."""
    unexpected = comparison.unexplained(comparison.unexpected, "checkpoint")
    if not unexpected:
        return
    graph, head = comparison.checkpoint.graph, comparison.file_head
    restored = {parent(name) for name in comparison.used}
    for group in by_part_or_place(unexpected, graph, restored):
        names, place = group.names, group.place
        training_state = all(_TRAINING_STATE & set(split_name(name)) for name in names)
        # A bias whose weight is restored belongs to a layer that the model has: without it the layer gives something else.
        in_the_head = not group.parts and all(in_head(name, head) for name in names)
        # InstanceNorm kept statistics before torch 0.4.
        statistics = all(role_of(leaf(name)) in BUFFER_ROLES and parent(name) in comparison.paired_modules for name in names)
        harmless = training_state or in_the_head
        what = (
            "training state"
            if training_state
            else "the file's head"
            if in_the_head
            else "running statistics of layers that keep none in the model"
            if statistics
            else "parts that the model's layers lack, and without which they give other outputs"
            if group.parts
            else "layers that the model does not have"
        )
        yield RULE.finding(
            f"{group.what} of the file {f'in `{place}` ' if place else ''}would be dropped: {what}.",
            checkpoint=names,
            severity="note" if harmless else "warning",
            fix=""
            if harmless
            else "build the layers with track_running_stats=True if the network was trained so"
            if statistics
            else "build the layers as in training (bias=True)"
            if group.parts and all(leaf(name) == "bias" for name in names)
            else "a network that was trained with these layers gives other outputs without them",
            status="remappable" if harmless else "partial",
            phrase="" if harmless else f"{lost_of(group, comparison.used)} of the file unused",
        )
