"""File and model store numbers in different dtypes."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph import is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.graph.tensors import DTYPE_BITS
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule, Severity

RULE = Rule("dtype", "Dtypes differ", "note", "cause")

#: Floating-point dtypes that are stored beside a scale.
_PACKED = ("float8", "float4")
#: Whole numbers of a byte, as quantised weights are stored.
_BYTES = ("int8", "uint8")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per pair of dtypes; a conversion between floating-point dtypes is done by load_state_dict itself."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, pair in comparison.alignment.pairs.items():
        old, new = comparison.checkpoint.graph.tensors[pair.sources[0]].dtype, comparison.model.graph.tensors[name].dtype
        if old != new and leaf(name) not in DERIVED_BUFFERS:
            groups.setdefault((old, new), []).append(name)
    for (old, new), names in groups.items():
        severity, meaning = _judge(old, new)
        wrong = severity == "error"
        yield RULE.finding(
            f"{f'{len(names)} tensors are' if len(names) > 1 else '1 tensor is'} {old} in the file and {new} in the model: {meaning}.",
            checkpoint=tuple(comparison.alignment.pairs[name].sources[0] for name in names),
            model=names,
            severity=severity,
            fix="" if severity == "note" else "build the model with the dtypes it was saved with, or convert the checkpoint first",
            status="incompatible" if wrong else "compatible",
            phrase="" if severity == "note" else f"{old} values for {new} {'weights' if wrong else 'tensors'}",
        )


def _judge(old: str, new: str) -> tuple[Severity, str]:
    """What ``load_state_dict`` makes of ``old`` numbers in a ``new`` tensor: how bad it is, and the words for that."""
    a, b = _kind(old), _kind(new)
    if (
        old.startswith(_PACKED)
        or "quantised" in (a, b)
        or (old in _BYTES and b in ("float", "complex"))
        or (new in _BYTES and a in ("float", "complex"))
    ):
        return "error", "the stored numbers need their scale; copied as they are, they are wrong"
    if a == "complex" != b:
        return "error", "the imaginary parts would be dropped"
    if a == b == "int":
        (low, high), (new_low, new_high) = _limits(old), _limits(new)
        fits = new_low <= low and high <= new_high
        return ("note", "values are converted while loading") if fits else ("warning", "values beyond the new range would wrap around")
    if (a, b) == ("int", "bool"):
        return "warning", "every value but 0 becomes True"
    if a == b or (a, b) in (("float", "complex"), ("bool", "int")):
        return "note", "values are converted while loading"
    return "error", "these are not the same kind of number; copied, values would be cut off"


def _kind(dtype: str) -> str:
    if is_float(dtype):
        return "float"
    if dtype.startswith("q"):
        return "quantised"
    return next(
        (kind for kind, start in (("complex", "complex"), ("int", ("int", "uint")), ("bool", "bool")) if dtype.startswith(start)), dtype
    )


def _limits(dtype: str) -> tuple[int, int]:
    bits = DTYPE_BITS[dtype]
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
