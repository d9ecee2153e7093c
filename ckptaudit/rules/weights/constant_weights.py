"""Kernels and matrices that hold one value throughout."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph.tensors import is_float
from ckptaudit.read import Checkpoint
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("constant-weights", "Weights hold one value throughout", "warning", "cause")

#: Values at the end of a weight that are looked at.
_ENDS = 8


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all kernels and matrices that the model would use and that hold a single value, as no training leaves them."""
    pairs, graph = comparison.alignment.pairs, comparison.model.graph
    used = {source for target, pair in pairs.items() if not graph.tensors[target].buffer for source in pair.sources}
    found = {name: value for name, value in comparison.values.constant.items() if name in used}
    if not found:
        return
    looked_at = comparison.values.looked_at
    zero = not any(found.values())
    if len(found) == looked_at and not zero:
        return  # a file that only shows what a checkpoint looks like: an example, a test
    if zero and len(found) < looked_at and _is_the_tail(comparison.checkpoint, found):
        yield RULE.finding(
            f"{len(found)} of {plural(looked_at, 'weight')} {'holds' if len(found) == 1 else 'hold'} zeros alone, and so does the file "
            "from the end of the weight before on: a download that was not completed leaves that.",
            checkpoint=found,
            severity="error",
            confidence=0.9,
            fix="take the file from its source again, and compare its digest",
            status="incompatible",
            phrase=f"the file ends in zeros: {plural(len(found), 'weight')} lost",
        )
        return
    first = next(iter(found))
    yield RULE.finding(
        f"{len(found)} of {plural(looked_at, 'weight')} {'holds' if len(found) == 1 else 'hold'} "
        + ("zeros alone" if zero else f"one value throughout, `{first}` {found[first]:g}")
        + ("" if comparison.deep else ", as far as the first and last rows show")
        + ": no training leaves weights so.",
        checkpoint=found,
        confidence=0.9 if comparison.deep else 0.8,
        fix="take a checkpoint that was saved after training; adapters and heads that start at zero are so only before it",
        phrase=f"{plural(len(found), 'weight')} of one value",
    )


def _is_the_tail(checkpoint: Checkpoint, names: Collection[str]) -> bool:
    """Whether the weights are the last ones of the file, and the one before them ends in zeros, too."""
    tensors = checkpoint.branch.tensors
    if len({tensor.storage.path for tensor in tensors.values()}) > 1 or any(tensor.storage.fetch for tensor in tensors.values()):
        return False
    weights = [name for name, tensor in tensors.items() if len(tensor.shape) > 1 and 0 not in tensor.shape and is_float(tensor.dtype)]
    weights.sort(key=lambda name: (tensors[name].storage.offset, tensors[name].offset))
    before = weights[: -len(names)]
    if not before or set(weights[-len(names) :]) != set(names):
        return False
    try:
        return not checkpoint.sample(before[-1], _ENDS, last=True)[-_ENDS:].any()
    except ValuesUnavailableError:  # packed values
        return False
