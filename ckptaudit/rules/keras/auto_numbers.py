"""Layers that Keras named itself have other numbers: it counts the layers of a class over the whole session."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.keras_loading import automatic_names
from ckptaudit.graph.names import parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are

RULE = Rule("auto-numbers", "Keras numbered the layers in another session", "note", "cause")

_MAX_CLASSES = 3


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all layers whose names differ in Keras' numbers alone."""
    names = comparison.numbered_otherwise
    if not names or comparison.explained:
        return
    pairs = [comparison.alignment.pairs[name] for name in names]
    here, there = automatic_names(comparison.checkpoint.graph), automatic_names(comparison.model.graph)
    shifts: dict[str, set[int]] = {}
    for pair in pairs:
        old, new = here.get(parent(pair.sources[0])), there.get(parent(pair.target))
        if old and new:
            shifts.setdefault(new[0], set()).add(new[1] - old[1])
    constant = [f"{stem} by {abs(next(iter(by)))}" for stem, by in shifts.items() if len(by) == 1 and by != {0}]
    more = f" and {len(constant) - _MAX_CLASSES} classes more" if len(constant) > _MAX_CLASSES else ""
    even = bool(shifts) and all(len(by) == 1 for by in shifts.values())
    evidence = (
        f"within a class all of them by the same number ({', '.join(constant[:_MAX_CLASSES])}{more})"
        if even
        else "their order and their shapes are the same"
    )
    loads = comparison.restored_by_position
    first = pairs[0]
    yield RULE.finding(
        f"{are(len(pairs), 'tensor')} in layers that Keras numbered in another session, such as `{first.sources[0]}` for `{first.target}`: "
        f"{evidence}. "
        + ("Keras restores by place, so that the numbers do not matter." if loads else "By name they would be missed, or exchanged."),
        checkpoint=(name for pair in pairs for name in pair.sources),
        model=names,
        severity="note" if loads else "warning",
        confidence=round(min(pair.confidence for pair in pairs), 2),
        fix="none needed" if loads else "restore by the plan, or give the layers names of your own",
        status="compatible" if loads else "remappable",
        phrase="layers numbered in another session",
    )
