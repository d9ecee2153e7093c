"""BatchNorm layers that still hold the statistics they were created with: mean 0, variance 1 in every channel.

A few channels with a variance of 0 or a denormal are normal in healthy networks and are not reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import common_prefix
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("bn-untrained", "BatchNorm statistics were never updated", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all layers of the file at their initial statistics that the model would use."""
    layers = comparison.batch_norm
    initial = [layer for layer in layers if layer.initial]
    if not initial:
        return
    names = tuple(name for layer in initial for name in layer.names)
    place = common_prefix([layer.names[0] for layer in initial])
    where = f" (`{place}`)" if place and len(initial) < len(layers) else ""
    everywhere = len(initial) == len(layers)
    yield RULE.finding(
        f"{len(initial)} of {plural(len(layers), 'BatchNorm layer')}{where} {'is' if len(initial) == 1 else 'are'} "
        f"at mean 0 and variance 1: {'it' if len(initial) == 1 else 'they'} never saw a batch in training mode"
        + ("." if everywhere else ", while the others did."),
        checkpoint=names,
        severity="error" if comparison.intent == "eval" else "warning",
        # A network whose every layer is initial may be meant so (statistics folded into the weights); one among trained ones is not.
        confidence=0.8 if everywhere else 0.97,
        fix="recompute the statistics: run training data through the model in train mode, then save it again",
        # To resume is to take up the state of training as it was, layers that were not trained included.
        status="compatible" if comparison.intent == "resume" else "partial",
        phrase="BatchNorm statistics untrained" + (f" in `{place}`" if place and not everywhere else ""),
    )
