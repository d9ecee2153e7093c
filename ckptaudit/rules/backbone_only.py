"""The file is a part of the model: a backbone without its head, or a network that belongs into a submodule."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("backbone-only", "The file holds only a part of the model", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per part of the model that the file as a whole is, and one for the rest that it lacks."""
    graph, alignment = comparison.model.graph, comparison.alignment
    for scope in alignment.scopes:
        if scope.target:
            place = f"`{scope.source}`" if scope.source else "The top level"
            inside = tuple(name for name in graph.tensors if is_under(name, scope.target) and name in alignment.pairs)
            yield RULE.finding(
                f"{place} of the file is `{scope.target}` of the model: {scope.tensors} tensors fit there."
                + (f" Equally well fit {', '.join(scope.rivals)}: which one is meant is undecided." if scope.rivals else ""),
                checkpoint=tuple(alignment.pairs[name].sources[0] for name in inside),
                model=inside,
                severity="warning",
                confidence=0.5 if scope.rivals else 0.97,
                fix=f"load it into model.{scope.target}, or put `{scope.target}.` before its names",
                status="partial" if scope.rivals else "remappable",
            )
    absent = whole_modules_missing(comparison)
    if not absent or not alignment.pairs:
        return
    names = tuple(name for name in comparison.missing if any(is_under(name, module) for module in absent))
    tops = ", ".join(f"`{module}`" for module in absent)
    part = next((s.target for s in alignment.scopes if s.target), "") or comparison.file_facts.backbone or "the rest"
    yield RULE.finding(
        f"The file holds {part} only: {tops} of the model ({len(names)} tensors) is absent and would keep its initial values.",
        model=names,
        severity="note" if comparison.intent == "finetune" else "error",
        fix="train the missing part, or take the checkpoint of the whole model",
        status="partial",
        phrase=f"{tops.replace('`', '')} absent",
    )


def whole_modules_missing(comparison: Comparison) -> tuple[str, ...]:
    """Top-level modules of the model that the file lacks altogether, while it sets all of at least one other.

    Auxiliary heads have a rule of their own and are left out. Empty when what is present is not complete: then the file is
    another network rather than a part of this one.
    """
    have: dict[str, int] = {}
    lack: dict[str, int] = {}
    for name in comparison.model.graph.tensors:
        if comparison.is_auxiliary(name):
            continue
        top = name.split(".")[0]
        if name in comparison.alignment.pairs or name in comparison.mismatched:
            have[top] = have.get(top, 0) + 1
        elif name in comparison.missing:
            lack[top] = lack.get(top, 0) + 1
    absent = tuple(top for top in lack if top not in have)
    complete = any(top not in lack for top in have)
    # The parts that are present must be nearly all there, and hold most of what the file brings.
    holes = sum(count for top, count in lack.items() if top in have)
    return absent if complete and have and holes * 20 <= sum(have.values()) else ()
