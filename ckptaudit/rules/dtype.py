"""File and model store numbers in different dtypes."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph import is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("dtype", "Dtypes differ", "note", "cause")

#: Floating-point dtypes that are stored beside a scale.
_PACKED = ("float8", "float4")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per pair of dtypes; a conversion between floating-point dtypes is done by load_state_dict itself."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, pair in comparison.alignment.pairs.items():
        old, new = comparison.checkpoint.graph.tensors[pair.sources[0]].dtype, comparison.model.graph.tensors[name].dtype
        if old != new and leaf(name) not in DERIVED_BUFFERS:
            groups.setdefault((old, new), []).append(name)
    for (old, new), names in groups.items():
        harmless = _converts(old, new)
        count = f"{len(names)} tensors are" if len(names) > 1 else "1 tensor is"
        meaning = (
            "values are converted while loading."
            if harmless
            else "the stored numbers need their scale; copied as they are, they are wrong."
            if _is_quantised(old) or _is_quantised(new)
            else "these are not the same kind of number; copied, values would be cut off."
        )
        yield RULE.finding(
            f"{count} {old} in the file and {new} in the model: {meaning}",
            checkpoint=tuple(comparison.alignment.pairs[name].sources[0] for name in names),
            model=names,
            severity="note" if harmless else "error",
            fix="" if harmless else "build the model with the dtypes it was saved with, or convert the checkpoint first",
            status="compatible" if harmless else "incompatible",
            phrase="" if harmless else f"{old} values for {new} weights",
        )


def _converts(old: str, new: str) -> bool:
    """Whether ``load_state_dict`` converts ``old`` to ``new`` by itself and the numbers keep their meaning."""
    if is_float(old) and is_float(new):
        return not old.startswith(_PACKED)
    return not is_float(old) and not is_float(new) and not _is_quantised(old) and not _is_quantised(new)


def _is_quantised(dtype: str) -> bool:
    return dtype.startswith(("q", *_PACKED)) or dtype in ("int8", "uint8")
