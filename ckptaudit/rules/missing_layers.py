"""Layers of the model that the file lacks, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.grouping import by_cause
from ckptaudit.rules.wording import plural

RULE = Rule("missing-layers", "Layers of the model are absent from the file", "error", "symptom")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place of the model where layers are missing."""
    missing = comparison.unexplained(comparison.missing, "model")
    for place, names in by_cause(missing, comparison.model.graph.tensors):
        in_head = all(comparison.in_model_head(name) for name in names)
        yield RULE.finding(
            f"{plural(len(names), 'tensor')} of the model {f'in `{place}` ' if place else ''}"
            f"{'are' if len(names) > 1 else 'is'} not in the file and would keep {'their' if len(names) > 1 else 'its'} initial values.",
            model=names,
            severity="note" if in_head and comparison.intent == "finetune" else "error",
            fix="check that the model is built with the arguments it was trained with",
            status="partial" if in_head else "incompatible",
            phrase=f"{f'`{place}`' if place else plural(len(names), 'tensor')} absent",
        )
