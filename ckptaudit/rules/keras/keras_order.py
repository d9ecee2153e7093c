"""Keras restores by places: layers in another order get what other layers have learned, without a word where shapes are equal."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.layouts import LEGACY
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("keras-order", "Keras would restore the layers in another order", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for layers that names put elsewhere than Keras would, and one where neither name nor place decides."""
    load, pairs = comparison.keras_load, comparison.alignment.pairs
    if load is None or comparison.explained or (load.refused in ("layers", "weights") and load.layers[0] != load.layers[1]):
        return
    moved = [name for name, old in load.sets.items() if name in pairs and pairs[name].sources != (old,)]
    how = "by the order of layers" if load.layout == LEGACY else "by the number of a layer within its class"
    if sure := [name for name in moved if pairs[name].sure]:
        first = sure[0]
        fits = not load.refused
        yield RULE.finding(
            f"Keras restores {how} and looks at no name. The layers stand in another order: load_weights "
            + ("would" if fits else "raises, since it would")
            + f" give `{first}` what the file holds for `{load.sets[first]}`, and exchange {plural(len(sure), 'tensor')} in all"
            + (" without a word." if fits else "."),
            checkpoint=(source for name in sure for source in pairs[name].sources),
            model=sure,
            severity="error" if fits else "warning",
            confidence=round(min(pairs[name].confidence for name in sure), 2),
            fix="restore with ckptaudit.load, which goes by names, or put the layers into the file's order",
            status="remappable",
            phrase="the same layers in another order",
        )
    if open_ := [name for name in moved if not pairs[name].sure]:
        first = open_[0]
        yield RULE.finding(
            f"Keras gave {plural(len(open_), 'tensor')} their names by counting, and restores {how}: by name `{first}` is "
            f"`{pairs[first].sources[0]}`, by place `{load.sets[first]}`. One of the two is wrong, and shapes fit either way.",
            checkpoint=(source for name in open_ for source in pairs[name].sources),
            model=open_,
            confidence=0.5,
            fix="give the layers names of your own in the code that wrote the file and in the model",
            status="partial",
            phrase=f"{plural(len(open_), 'tensor')} undecided between name and place",
        )
