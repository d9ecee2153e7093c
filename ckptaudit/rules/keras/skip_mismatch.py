"""What ``load_weights(skip_mismatch=True)`` leaves as it was built: it warns, and the model predicts with what nobody trained."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.keras_loading import KerasLoad
from ckptaudit.graph.layouts import LEGACY
from ckptaudit.graph.names import parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural, quoted

RULE = Rule("skip-mismatch", "skip_mismatch=True would leave layers as they were built", "note", "cause")

_SHOWN = 3


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for the tensors that Keras would skip, if it loads at all."""
    load = comparison.keras_load
    if load is None or load.refused != "shapes" or comparison.explained:
        return
    skipped = _skipped(comparison, load)
    if not set(skipped) <= {*comparison.mismatched, *comparison.missing}:  # then layers are in another order: that is told elsewhere
        skipped = [name for name in skipped if name in comparison.mismatched] if load.layout == LEGACY else skipped
        if not skipped or any(
            name in comparison.alignment.pairs and parent(name) not in _mismatched_layers(comparison) for name in skipped
        ):
            return
    half = sorted({parent(name) for name in comparison.model.graph.tensors if name not in skipped} & {parent(name) for name in skipped})
    more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    yield RULE.finding(
        f"load_weights(skip_mismatch=True) would leave {quoted(skipped[:_SHOWN])}{more} ({plural(len(skipped), 'tensor')}) "
        "as they were built, with a warning and nothing more"
        + (f"; the rest of {quoted(half[:_SHOWN])} would come from the file." if half else "."),
        severity="note",
        fix="train what is left before the model is used",
    )


def _skipped(comparison: Comparison, load: KerasLoad) -> list[str]:
    """Names that are not set: single weights in a legacy file, else the first that does not fit and those behind it in its layer."""
    file, model = comparison.checkpoint.graph, comparison.model.graph
    other = {name for name, old in load.sets.items() if file.tensors[old].shape != model.tensors[name].shape}
    if load.layout == LEGACY:
        return [name for name in model.tensors if name in other]
    places = load.places
    first: dict[str, int] = {}
    for name in other:
        layer, _, number = places[name].rpartition("/")
        if number.isdecimal():
            first[layer] = min(int(number), first.get(layer, int(number)))
    skipped = []
    for name, place in places.items():
        layer, _, number = place.rpartition("/")
        if name in other or (layer in first and number.isdecimal() and int(number) >= first[layer]):
            skipped.append(name)
    return skipped


def _mismatched_layers(comparison: Comparison) -> set[str]:
    return {parent(name) for name in comparison.mismatched}
