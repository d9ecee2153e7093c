"""Layers of the model that the file lacks, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf, parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.gaps.grouping import by_part_or_place, lost_of

RULE = Rule("missing-layers", "Layers of the model are absent from the file", "error", "symptom")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place of the model where layers are missing."""
    missing = comparison.unexplained(comparison.missing, "model")
    kept = {parent(name) for name in comparison.alignment.pairs}
    for group in by_part_or_place(missing, comparison.model.graph, kept):
        one = len(group.names) == 1
        in_head = all(comparison.in_model_head(name) for name in group.names)
        yield RULE.finding(
            f"{group.what} of the model {f'in `{group.place}` ' if group.place else ''}{'is' if one else 'are'} not in the file and would "
            f"keep {'its' if one else 'their'} initial values.",
            model=group.names,
            severity="note" if in_head and comparison.intent == "finetune" else "error",
            fix="build the layers as in training (bias=False)"
            if group.parts and all(leaf(name) == "bias" for name in group.names)
            else "check that the model is built with the arguments it was trained with",
            status="partial" if in_head else "incompatible",
            phrase=f"{lost_of(group, comparison.alignment.pairs)} absent",
        )
