"""One side has an auxiliary head that the other lacks."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("aux-head", "An auxiliary head is on one side only", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for the side that has it; a head that is only in the file is simply dropped."""
    if comparison.unrelated:
        return
    # torchvision's word for it: aux_classifier is built by aux_loss, AuxLogits and aux1 by aux_logits.
    argument = "aux_loss" if any(is_under(name, "aux_classifier") for name in comparison.missing) else "aux_logits"
    torchvision = comparison.model.source == "torchvision"
    if absent := tuple(name for name in comparison.missing if comparison.is_auxiliary(name)):
        yield RULE.finding(
            f"The model has an auxiliary head that the file lacks ({plural(len(absent), 'tensor')}); it would stay at its initial values.",
            model=absent,
            severity="note" if comparison.intent == "finetune" else "warning",
            fix="build the model without it; the main output does not depend on it",
            retry=[("--arch-arg", f"{argument}=False")] if torchvision else (),
            status="partial",
            phrase="aux head absent",
        )
    if extra := tuple(name for name in comparison.unexpected if comparison.is_auxiliary(name)):
        yield RULE.finding(
            f"The file has an auxiliary head that the model lacks ({plural(len(extra), 'tensor')}); it is dropped.",
            checkpoint=extra,
            severity="note",
            fix="nothing to do for inference; to train on, build the model with it",
            status="remappable",
            phrase="aux head of the file unused",
        )
