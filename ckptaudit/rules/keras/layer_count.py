"""Keras finds another number of layers in the file than the model has: "a weight file containing 0 layers into a model with 23"."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.layouts import LEGACY, NUMBERED
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("layer-count", "Keras finds another number of layers in the file", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding where the file's name has Keras read it as what it is not, and one where the numbers differ."""
    load = comparison.keras_load
    if load is None or comparison.explained or not comparison.checkpoint.graph:
        return
    held, wanted = load.layers
    path = comparison.checkpoint.path.name
    if load.layout == NUMBERED and path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5"):
        stem = path.rpartition(".")[0]
        yield RULE.finding(
            f"Keras takes the file for one of its old format, since its name does not end in `.weights.h5`, and finds 0 layers in it for "
            f"the model's {wanted}.",
            fix=f"rename it to `{stem}.weights.h5`, or restore with ckptaudit.load, which looks at the content",
            status="remappable",
            phrase=f"a name under which Keras finds 0 of {wanted} layers",
        )
    if load.layout == LEGACY and path.endswith(".weights.h5"):
        yield RULE.finding(
            f"Keras 3 takes the file for one of its new format, since its name ends in `.weights.h5`, and finds none of its {held} layers.",
            fix=f"rename it to `{path.removesuffix('.weights.h5')}.h5`, or restore with ckptaudit.load, which looks at the content",
            status="remappable",
            phrase=f"a name under which Keras finds none of its {held} layers",
        )
    if held != wanted and not comparison.unrelated:
        silent = load.layout == NUMBERED and held > wanted and load.refused != "weights"
        what = (
            "drops the others without a word"
            if silent
            else "refuses the file, also with skip_mismatch=True"
            if load.layout == LEGACY
            else "refuses the file"
        )
        yield RULE.finding(
            f"The file has {plural(held, 'layer')} with weights and the model {wanted}: load_weights {what}.",
            severity="note" if silent else "warning",
            fix="build the model as it was when the file was written; what fits of it, ckptaudit.load restores",
            status="remappable",
            phrase=f"{plural(held, 'layer')} into a model with {wanted}",
        )
