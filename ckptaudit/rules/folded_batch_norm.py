"""BatchNorm layers of the file that the model seems to have folded into the layers before them."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.lost_norms import lost_norms
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("folded-batch-norm", "The model has its BatchNorm folded", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all layers whose BatchNorm would be dropped while the layer itself has a counterpart with a bias."""
    file, model = comparison.checkpoint.graph, comparison.model.graph
    lost = list(lost_norms(comparison.alignment, file, model))
    if not lost:
        return
    folds = file.framework == model.framework == "torch"
    yield RULE.finding(
        f"{plural(len(lost), 'BatchNorm layer')} of the file would be dropped, while the layer before "
        f"{'it' if len(lost) == 1 else 'each of them'} is there with a bias: the model seems to have them folded in, as for deployment. "
        "The file's weights as they are would give other outputs.",
        checkpoint=[spec.name for found in lost for spec in found.norm.tensors.values()],
        model=[name for found in lost for name in (found.weight, found.bias)],
        confidence=0.9,
        fix="fold them: ckptaudit remap … --adapt fuse --source-arch the model that wrote the file (their eps is not in the file)"
        if folds
        else "build the model with BatchNorm layers, or fold them where the file was made",
        status="partial",
        phrase=f"{plural(len(lost), 'BatchNorm layer')} to be folded",
    )
