"""File and model store numbers in different dtypes."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph import is_float
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("dtype", "Dtypes differ", "note", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per pair of dtypes; a conversion between floating-point dtypes is done by load_state_dict itself."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, pair in comparison.alignment.pairs.items():
        old, new = comparison.checkpoint.graph.tensors[pair.sources[0]].dtype, comparison.model.graph.tensors[name].dtype
        if old != new:
            groups.setdefault((old, new), []).append(name)
    for (old, new), names in groups.items():
        converts = is_float(old) and is_float(new) and not old.startswith(("float8", "float4"))
        integers = not is_float(old) and not is_float(new) and not old.startswith("q")
        harmless = converts or integers
        yield RULE.finding(
            f"{len(names)} tensors are {old} in the file and {new} in the model: "
            + (
                "values are converted while loading."
                if harmless
                else "the stored numbers need their scale; copied as they are, they are wrong."
            ),
            checkpoint=tuple(comparison.alignment.pairs[name].sources[0] for name in names),
            model=names,
            severity="note" if harmless else "error",
            fix="" if harmless else "dequantise the checkpoint, or build the quantised model",
            status="compatible" if harmless else "incompatible",
            phrase="" if harmless else f"{old} values for {new} weights",
        )
