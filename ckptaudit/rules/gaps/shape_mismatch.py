"""Tensors whose names correspond and whose shapes do not, for no reason that another rule names."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import common_prefix
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.gaps.grouping import by_cause
from ckptaudit.rules.gaps.ratios import lowest_terms
from ckptaudit.rules.wording import have, plural

RULE = Rule("shape-mismatch", "Shapes differ", "error", "symptom")

#: From this share of the tensors that correspond, it is the network that differs and not some places of it.
_WHOLE = 0.4


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per place, with the first pair of shapes as the example; a single one when they have one reason."""
    names = comparison.unexplained(comparison.mismatched, "model")
    if len(names) > 1 and len(names) >= _WHOLE * (len(comparison.mismatched) + len(comparison.alignment.pairs)):
        yield _finding(comparison, "", names, "the network is wider, or narrower, as a whole.")
        return
    if len(names) > 1 and len(_factors(comparison, names)) == 1:
        yield _finding(
            comparison, common_prefix(names), names, "all of them differ by the same factor: some layers are wider, or narrower."
        )
        return
    for place, group in by_cause(names, comparison.model.graph.tensors):
        yield _finding(comparison, place, group)


def _factors(comparison: Comparison, names: tuple[str, ...]) -> set[tuple[int, int]]:
    """By what the sizes differ, over all axes that do; several where shapes cannot be compared."""
    factors: set[tuple[int, int]] = set()
    for old, new in map(comparison.shapes, names):
        if len(old) != len(new) or 0 in new:
            return {(0, 1), (1, 1)}
        factors.update(lowest_terms(a, b) for a, b in zip(old, new, strict=True) if a != b)
    return factors


def _finding(comparison: Comparison, place: str, names: tuple[str, ...], meaning: str = "") -> Finding:
    in_file, in_model = comparison.shapes(names[0])
    return RULE.finding(
        f"{have(len(names), 'tensor')} another shape{f' in `{place}`' if place else ''}: "
        f"`{names[0]}` is {list(in_file)} in the file and {list(in_model)} in the model" + (f"; {meaning}" if meaning else "."),
        checkpoint=tuple(comparison.mismatched[name] for name in names),
        model=names,
        fix="build the model with the arguments it was trained with",
        status="incompatible",
        phrase=f"{plural(len(names), 'shape')} {'differs' if len(names) == 1 else 'differ'}",
    )
