"""Weights that share memory on one side only."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("tied-weights", "Tied weights", "note", "cause")

#: Values compared at the start of two tensors, unless all are asked for, to see whether they are copies of one another.
_COMPARED = 1024
#: Significant bits of floating-point dtypes: copies that were rounded to one of them are copies still.
_DIGITS = MappingProxyType({"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53})


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for aliases that the file left out, and for tensors the model ties although the file's differ."""
    pairs, checkpoint = comparison.alignment.pairs, comparison.checkpoint
    for group in comparison.model.graph.tied:
        sources = {name: pairs[name].sources[0] for name in group if name in pairs}
        equal = " = ".join(f"`{name}`" for name in group)
        restored = [name for name in sources if sources[name] != name and sources[name] in sources.values()]
        distinct = tuple(dict.fromkeys(sources.values()))
        if len(distinct) < len(sources) and restored:
            yield RULE.finding(
                f"The model ties {equal}; the file stores it once, as safetensors does: restored through the alias.",
                checkpoint=distinct,
                model=group,
                status="remappable",
            )
        elif len(distinct) < 2 or any(set(distinct) <= set(tied) for tied in checkpoint.graph.tied):
            continue
        elif differ := _differ(comparison, distinct):
            yield RULE.finding(
                f"The model ties {equal}, but the file holds different values for them: the last one loaded wins.",
                checkpoint=distinct,
                model=group,
                severity="error",
                fix="build the model with separate weights (tie_word_embeddings=False in transformers)",
                status="partial",
                phrase="tied in the model, different in the file",
            )
        elif differ is False and not comparison.deep and any(checkpoint.graph.tensors[name].numel > _COMPARED for name in distinct):
            yield RULE.finding(
                f"The model ties {equal}, and the file holds each of them: they agree in a sample of at most {_COMPARED:,} values, "
                "and only that was compared.",
                checkpoint=distinct,
                model=group,
                confidence=0.9,
                fix="compare every value with --deep",
            )
    for group in checkpoint.graph.tied:
        targets = tuple(name for name, pair in pairs.items() if pair.sources[0] in group)
        if len(targets) > 1 and not any(set(targets) <= set(tied) for tied in comparison.model.graph.tied):
            yield RULE.finding(
                f"The file ties {' = '.join(f'`{name}`' for name in group)}; in the model they are separate and become equal copies.",
                checkpoint=group,
                model=targets,
            )


def _differ(comparison: Comparison, names: tuple[str, ...]) -> bool | None:
    """Whether tensors of the file hold different values, rounding to the coarsest of their dtypes aside; None when that cannot be read."""
    import numpy

    checkpoint = comparison.checkpoint
    if checkpoint.recorded is not None:
        return True if names in checkpoint.recorded.differing else None
    dtypes = [checkpoint.graph.tensors[name].dtype for name in names]
    try:
        values = [checkpoint.read(name).reshape(-1) if comparison.deep else checkpoint.sample(name, _COMPARED) for name in names]
    except ValuesUnavailableError:
        return None
    if all(dtype in _DIGITS for dtype in dtypes):
        common = values[min(range(len(names)), key=lambda i: _DIGITS[dtypes[i]])].dtype
    elif len({array.dtype for array in values}) == 1:
        common = values[0].dtype
    else:
        common = numpy.dtype(numpy.complex128 if any(dtype.startswith("complex") for dtype in dtypes) else numpy.float64)
    with numpy.errstate(over="ignore"):
        first, *others = (array.astype(common, copy=False) for array in values)
    # A NaN is equal to the NaN in its place.
    return any(first.shape != other.shape or not ((first == other) | (numpy.isnan(first) & numpy.isnan(other))).all() for other in others)
