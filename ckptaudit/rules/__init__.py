"""What can be wrong between a checkpoint and a model: one module per rule.

A rule's module declares ``RULE`` and a function ``check(comparison)`` that yields findings. To add a rule, add a module.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ckptaudit.rules.finding import Finding, Phase, Rule, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckptaudit.graph import LayerGraph, Origin
    from ckptaudit.rules.allowance import Allowance
    from ckptaudit.rules.comparison import Comparison

    Check = Callable[[Comparison], Iterator[Finding]]

__all__ = ["Finding", "Rule", "Severity", "Status", "all_rules", "run_rules"]

_PHASES: tuple[Phase, ...] = ("file", "architecture", "cause", "symptom")


@cache
def all_rules() -> tuple[tuple[Rule, Check], ...]:
    """Every rule with its check, in alphabetical order of ids."""
    import importlib
    import pkgutil

    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return tuple(sorted(((module.RULE, module.check) for module in modules if hasattr(module, "RULE")), key=lambda pair: pair[0].id))


def run_rules(comparison: Comparison, allow: Sequence[Allowance] = ()) -> list[Finding]:
    """Run every rule, phase by phase, and leave the findings in ``comparison.findings`` too.

    Rules of one phase do not see each other's findings, so their order does not matter. What is allowed is found all the same.
    """
    from ckptaudit.rules.allowance import as_allowed, excuse

    for phase in _PHASES:
        found = [finding for rule, check in all_rules() if rule.phase == phase for finding in check(comparison)]
        comparison.findings += [_with_origin(finding, comparison.model.graph) for finding in found]
    comparison.findings = [
        as_allowed(finding, "the caller lets it keep its values") if comparison.waives(finding) else finding
        for finding in excuse(comparison.findings, allow)
    ]
    return comparison.findings


def _with_origin(finding: Finding, graph: LayerGraph) -> Finding:
    """Point the finding to the line that attached its first module, or the nearest module above that has one."""
    from ckptaudit.records import replace

    return replace(finding, origin=_origin_of(finding.model[0], graph)) if finding.model and not finding.origin else finding


def _origin_of(name: str, graph: LayerGraph) -> Origin | None:
    from ckptaudit.graph.names import parent

    path = parent(name)
    while path:
        if (module := graph.modules.get(path)) is not None and module.origin is not None:
            return module.origin
        path = parent(path)
    return None
