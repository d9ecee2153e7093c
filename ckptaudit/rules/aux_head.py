"""One side has an auxiliary head that the other lacks."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("aux-head", "An auxiliary head is on one side only", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for the side that has it; a head that is only in the file is simply dropped."""
    argument = "aux_logits" if any("AuxLogits" in n or "aux1" in n for n in (*comparison.missing, *comparison.unexpected)) else "aux_loss"
    torchvision = comparison.model.source == "torchvision"
    if absent := tuple(name for name in comparison.missing if comparison.is_auxiliary(name)):
        yield RULE.finding(
            f"The model has an auxiliary head that the file lacks ({len(absent)} tensors); it would stay at its initial values.",
            model=absent,
            severity="note" if comparison.intent == "finetune" else "warning",
            fix="build the model without it; the main output does not depend on it",
            retry=[("--arch-arg", f"{argument}=False")] if torchvision else (),
            status="partial",
            phrase="aux head absent",
        )
    if extra := tuple(name for name in comparison.unexpected if comparison.is_auxiliary(name)):
        yield RULE.finding(
            f"The file has an auxiliary head that the model lacks ({len(extra)} tensors); it is dropped.",
            checkpoint=extra,
            severity="note",
            fix="nothing to do for inference; to train on, build the model with it",
            status="remappable",
            phrase="aux head of the file unused",
        )
