"""Weights that are in a Keras 3 file under paths at which this version of Keras does not look."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.layouts import NUMBERED
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are

RULE = Rule("keras-paths", "Keras looks elsewhere in the file", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all tensors that have a counterpart at another path, and nothing at their own."""
    load = comparison.keras_load
    if load is None or load.layout != NUMBERED or comparison.explained:
        return
    if load.layers[0] != load.layers[1]:  # then numbers within classes differ, and that is told as what it is
        return
    held, wanted = comparison.checkpoint.graph.places[NUMBERED], load.places
    moved = [pair for name, pair in comparison.alignment.pairs.items() if pair.sure and name not in load.sets]
    if not moved:
        return
    first = moved[0]
    yield RULE.finding(
        f"{are(len(moved), 'tensor')} in the file where this version of Keras does not look: it wants `{wanted[first.target]}`, "
        f"the file has `{held[first.sources[0]]}`. load_weights refuses the file.",
        checkpoint=(source for pair in moved for source in pair.sources),
        model=(pair.target for pair in moved),
        confidence=round(min(pair.confidence for pair in moved), 2),
        fix="restore with ckptaudit.load, or with the version of Keras that wrote the file",
        status="remappable",
        phrase="other paths than Keras looks for",
    )
