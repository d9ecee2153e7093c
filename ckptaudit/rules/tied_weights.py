"""Weights that share memory on one side only."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("tied-weights", "Tied weights", "note", "cause")

#: Values compared at the start of two tensors to see whether they are copies of one another.
_COMPARED = 1024


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
        elif len(distinct) > 1 and not any(set(distinct) <= set(tied) for tied in checkpoint.graph.tied) and _differ(comparison, distinct):
            yield RULE.finding(
                f"The model ties {equal}, but the file holds different values for them: the last one loaded wins.",
                checkpoint=distinct,
                model=group,
                severity="error",
                fix="build the model with separate weights (tie_word_embeddings=False in transformers)",
                status="partial",
                phrase="tied in the model, different in the file",
            )
    for group in checkpoint.graph.tied:
        targets = tuple(name for name, pair in pairs.items() if pair.sources[0] in group)
        if len(targets) > 1 and not any(set(targets) <= set(tied) for tied in comparison.model.graph.tied):
            yield RULE.finding(
                f"The file ties {' = '.join(f'`{name}`' for name in group)}; in the model they are separate and become equal copies.",
                checkpoint=group,
                model=targets,
            )


def _differ(comparison: Comparison, names: tuple[str, ...]) -> bool:
    try:
        first, *others = (comparison.checkpoint.sample(name, _COMPARED).tobytes() for name in names)
    except ValuesUnavailableError:
        return False
    return any(other != first for other in others)
