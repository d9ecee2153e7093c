"""BatchNorm layers of the file that the model seems to have folded into its other layers."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.branches import merged_branches
from ckptaudit.align.lost_norms import lost_norms
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("folded-batch-norm", "The model has its BatchNorm folded", "error", "architecture")

_FIX = "fold them: ckptaudit remap … --adapt fuse --source-arch the model that wrote the file (their eps is not in the file)"
_FIX_ELSEWHERE = "build the model with BatchNorm layers, or fold them where the file was made"


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for BatchNorm layers that would be dropped behind layers of the model, and one for branches that add up to one."""
    file, model, pairs = comparison.checkpoint.graph, comparison.model.graph, comparison.alignment.pairs
    joined = {name for name, pair in pairs.items() if len(pair.sources) > 1}  # done already, for it was asked for
    merged = [
        found
        for found in merged_branches(file, model, tuple(comparison.alignment.wrappers))
        if joined.isdisjoint(spec.name for spec in found.layer.tensors.values())
    ]
    branches = [layer for found in merged for branch in found.branches for layer in (branch.conv, branch.norm) if layer is not None]
    lost = [found for found in lost_norms(comparison.alignment, file, model) if found.norm not in branches]
    if lost:
        yield RULE.finding(
            f"{plural(len(lost), 'BatchNorm layer')} of the file would be dropped, while the layer before "
            f"{'it' if len(lost) == 1 else 'each of them'} is there with a bias: the model seems to have them folded in, as for "
            "deployment. The file's weights as they are would give other outputs.",
            checkpoint=[spec.name for found in lost for spec in found.norm.tensors.values()],
            model=[name for found in lost for name in (found.weight, found.bias)],
            confidence=0.9,
            fix=_FIX if file.framework == model.framework == "torch" else _FIX_ELSEWHERE,
            status="incompatible",
            phrase=f"{plural(len(lost), 'BatchNorm layer')} to be folded",
        )
    if merged:
        yield RULE.finding(
            f"{plural(len(merged), 'convolution')} of the model {'stands' if len(merged) == 1 else 'stand'} where the file has branches "
            f"with BatchNorm that add up to {'it' if len(merged) == 1 else 'one each'}: the model is the file's, made ready for "
            "deployment.",
            checkpoint=[spec.name for layer in branches for spec in layer.tensors.values()],
            model=[spec.name for found in merged for spec in found.layer.tensors.values()],
            confidence=0.9,
            fix=_FIX,
            status="incompatible",
            phrase=f"{plural(len(merged), 'convolution')} to be put together from branches",
        )
