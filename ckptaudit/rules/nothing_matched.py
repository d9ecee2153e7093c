"""No tensor, or next to none, would be set: ``strict=False`` would have said nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("nothing-matched", "Nothing would be restored", "error", "cause")

#: Fewer names than this share correspond: coincidences such as one ``fc.bias``.
_COINCIDENCE = 0.02


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when (nearly) no name of the file is one of the model's."""
    corresponding = len(comparison.alignment.pairs) + len(comparison.mismatched)
    if comparison.checkpoint.branch.role == "optimizer" or corresponding > _COINCIDENCE * len(comparison.model.graph):
        return
    first_file = next(iter(comparison.checkpoint.graph.tensors), "none")
    first_model = next(iter(comparison.model.graph.tensors), "none")
    backbone = comparison.file_facts.backbone
    yield RULE.finding(
        f"{corresponding or 'None'} of the model's {len(comparison.model.graph)} tensors "
        f"{'are' if corresponding != 1 else 'is'} in the file under any known prefix: "
        f"the file's names begin with `{first_file}`, the model's with `{first_model}`. "
        "load_state_dict(strict=False) would leave the model untrained in silence."
        + (f" By its structure the file holds a {backbone}." if backbone else ""),
        checkpoint=(*comparison.unexpected, *comparison.mismatched.values()),
        model=(*comparison.missing, *comparison.mismatched),
        fix="check the architecture, or the library that wrote the file",
        status="incompatible",
        phrase="nothing in the file is of this model",
    )
