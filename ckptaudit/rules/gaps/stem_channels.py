"""The first convolution was trained for another number of input channels."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.facts import stem_layer
from ckptaudit.graph.names import parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("stem-channels", "Another number of input channels", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when the stem differs in its input channels and in nothing else."""
    stem = stem_layer(comparison.model.graph)
    axis = -2 if comparison.model.graph.framework in ("keras", "tensorflow") else 1
    for name in comparison.unexplained(comparison.mismatched, "model"):
        if parent(name) != stem:
            continue
        old, new = comparison.shapes(name)
        if len(old) != len(new) or len(old) < 3 or [i for i in range(len(old)) if old[i] != new[i]] != [axis % len(old)]:
            continue
        yield RULE.finding(
            f"The file takes {old[axis]} input channels and the model {new[axis]} (`{stem}`).",
            checkpoint=(comparison.mismatched[name],),
            model=(name,),
            severity="warning" if comparison.intent == "finetune" else "error",
            fix=f"build the model for {old[axis]} channels, or sum / repeat the kernel over its input channels and fine-tune",
            status="partial",
            phrase=f"input channels {old[axis]} → {new[axis]}",
        )
