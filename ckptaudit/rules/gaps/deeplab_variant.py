"""DeepLabV3 and DeepLabV3+ share a backbone and the pyramid, but not the decoder."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.facts import BACKBONE_WORDS
from ckptaudit.graph.names import split_name
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("deeplab-variant", "DeepLabV3 versus DeepLabV3+", "error", "cause")

_TITLES = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3+"}


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when both sides have a pyramid pooling module and only one of them a low-level branch."""
    if not (comparison.missing or comparison.unexpected or comparison.mismatched):
        return
    old, new = comparison.file_facts.decoder, comparison.model_facts.decoder
    if old is None or new is None or old == new:
        return

    def inside(name: str) -> bool:
        return BACKBONE_WORDS.isdisjoint(split_name(name)) and not comparison.is_auxiliary(name)

    mismatched = tuple(name for name in comparison.mismatched if inside(name))
    yield RULE.finding(
        f"The file holds a {_TITLES[old]} decoder and the model is a {_TITLES[new]}: "
        "only V3+ joins low-level features (48 channels) before the classifier.",
        checkpoint=(*filter(inside, comparison.unexpected), *(comparison.mismatched[name] for name in mismatched)),
        model=(*filter(inside, comparison.missing), *mismatched),
        confidence=0.95,
        fix=f"build a {_TITLES[old]}",
        status="incompatible",
        phrase=f"{_TITLES[old]} in the file, {_TITLES[new]} in the model",
    )
