"""``load_weights(by_name=True)`` would find few of the layers, or none, and say nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.keras_loading import load_as_keras
from ckptaudit.graph.layouts import BY_NAME
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("by-name", "by_name=True would find few of the layers", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when layers that are in the file would not be found by their names."""
    load = load_as_keras(comparison.checkpoint.graph, comparison.model.graph, (BY_NAME,))
    if load is None or comparison.explained:
        return
    pairs = comparison.alignment.pairs
    lost = [name for name, pair in pairs.items() if pair.sure and load.sets.get(name) not in pair.sources]
    if not lost:
        return
    found = {load.places[name].rpartition("/")[0] for name in load.sets}
    mixed = [name for name in lost if name in load.sets]
    first = mixed[0] if mixed else lost[0]
    yield RULE.finding(
        f"load_weights(by_name=True) would find {len(found) or 'none'} of the model's {plural(load.layers[1], 'layer')} by name and "
        "leave the others as they were built, without a word. "
        + (
            f"{plural(len(mixed), 'tensor')} would get the values of another layer: "
            if mixed
            else f"{plural(len(lost), 'tensor')} of theirs are in the file under other names: "
        )
        + f"`{first}` is `{pairs[first].sources[0]}` in the file"
        + (f", not `{load.sets[first]}`." if mixed else "."),
        checkpoint=(source for name in lost for source in pairs[name].sources),
        model=lost,
        severity="warning" if mixed else "note",
        fix="load without by_name, or with ckptaudit.load",
    )
