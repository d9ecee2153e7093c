"""BatchNorm layers of the model that the file, an export, has worked into the layers before them."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.lost_norms import FOLDED, norm_behind
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("folded-export", "The file has BatchNorm folded", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for all layers of which the file has one, with a bias, where the model has two."""
    topology = comparison.topology
    if topology is None:
        yield from _unfollowed(comparison)
        return
    folded = [pair for pair in topology.layers if pair.folded]
    layers = [pair.target.norm for pair in folded if pair.target.norm is not None]
    if not layers:
        return
    one, trains = len(folded) == 1, comparison.intent != "eval"
    lost = "; the statistics are lost."
    yield RULE.finding(
        f"{plural(len(folded), 'BatchNorm layer')} of the model {'is' if one else 'are'} folded into the convolutions of the file, as "
        f"exporters do, the first `{layers[0].path}`. By the plan {'its place is' if one else 'their places are'} taken by BatchNorm that "
        "changes nothing: in evaluation mode the outputs are the file's"
        + (", in training mode they are others at once" if trains else "")
        + lost,
        checkpoint=[use.name for pair in folded for use in (pair.source.weight, pair.source.bias) if use is not None],
        model=[use.name for norm in layers for use in norm.tensors.values()],
        severity="warning" if trains else "note",
        confidence=0.98,
        fix="to train further, take the checkpoint that was exported" if trains else "",
        status="remappable",
        phrase=f"{len(folded)} BatchNorm folded",
    )


def _unfollowed(comparison: Comparison) -> Iterator[Finding]:
    """Layers whose names or shapes say that they correspond, with the BatchNorm behind them nowhere in the file."""
    model = comparison.model.graph
    doubted = []
    for pair in comparison.alignment.pairs.values():
        norm = norm_behind(model, pair.target, model.tensors[pair.target].shape[0]) if model.tensors[pair.target].shape else None
        if norm is not None and FOLDED.format(norm.path) in pair.evidence:
            doubted.append((pair, norm))
    count = len({norm.path for _, norm in doubted})
    if doubted:
        yield RULE.finding(
            f"The file, an export, seems to have {plural(count, 'BatchNorm layer')} of the model folded into the layers before "
            f"{'it' if count == 1 else 'them'}, the first `{doubted[0][1].path}`. This is a guess by names and shapes: what the "
            "model computes is not known here.",
            checkpoint=[name for pair, _ in doubted for name in pair.sources],
            model=[name for pair, norm in doubted for name in (pair.target, *(spec.name for spec in norm.tensors.values()))],
            severity="error",
            confidence=0.8,
            fix="name the model with --arch, to be built live and followed; --against may name the checkpoint, too, to compare values",
            status="incompatible",
            phrase=f"{count} BatchNorm folded",
        )
