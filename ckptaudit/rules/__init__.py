"""What can be wrong between a checkpoint and a model: one module per rule, in one package per subject.

A rule's module declares ``RULE`` and a function ``check(comparison)`` that yields findings. To add a rule, add a module. The package says
when it is asked at all: in many audits there is nothing that most rules are about, and to load them takes longer than to ask the others.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.rules.finding import Finding, Phase, Rule, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ckptaudit.graph import LayerGraph, Origin
    from ckptaudit.read import Checkpoint
    from ckptaudit.rules.allowance import Allowance
    from ckptaudit.rules.comparison import Comparison

    Check = Callable[[Comparison], Iterator[Finding]]

__all__ = ["Finding", "Rule", "Severity", "Status", "all_rules", "run_rules"]

_PHASES: tuple[Phase, ...] = ("file", "architecture", "cause", "symptom")


#: Of each package whether any of its rules could find something.
_ASKED: Mapping[str, Callable[[Comparison], bool]] = MappingProxyType(
    {
        "always": lambda comparison: True,
        "exports": lambda comparison: comparison.checkpoint.framework == "onnx",
        "gaps": lambda comparison: not comparison.alignment.as_it_is,
        "keras": lambda comparison: "keras" in (comparison.checkpoint.framework, comparison.model.graph.framework),
        "optimizers": lambda comparison: comparison.intent == "resume" or comparison.checkpoint.branch.role == "optimizer",
        "pickled": lambda comparison: bool(comparison.checkpoint.refused_globals) or _holds_arrays(comparison),
        "settings": lambda comparison: comparison.topology is not None or _tells_settings(comparison.checkpoint),
        "sharing": lambda comparison: bool(comparison.checkpoint.graph.tied or comparison.model.graph.tied),
        "weights": lambda comparison: bool(comparison.batch_norm or comparison.values.constant or comparison.non_finite),
    }
)


def _holds_arrays(comparison: Comparison) -> bool:
    return any(tensor.is_array for tensor in comparison.checkpoint.branch.tensors.values())


def _tells_settings(checkpoint: Checkpoint) -> bool:
    return checkpoint.recorded is not None or bool(checkpoint.graph.modules)


def all_rules() -> tuple[tuple[Rule, Check], ...]:
    """Every rule with its check, in alphabetical order of ids."""
    return _rules_of(tuple(_ASKED))


@cache
def _rules_of(packages: tuple[str, ...]) -> tuple[tuple[Rule, Check], ...]:
    """The rules of these packages, in alphabetical order of ids."""
    return tuple(sorted((pair for package in packages for pair in _rules_in(package)), key=lambda pair: pair[0].id))


@cache
def _rules_in(package: str) -> tuple[tuple[Rule, Check], ...]:
    import importlib
    import pkgutil

    home = importlib.import_module(f"{__name__}.{package}")
    modules = (importlib.import_module(f"{home.__name__}.{found.name}") for found in pkgutil.iter_modules(home.__path__))
    return tuple((module.RULE, module.check) for module in modules if hasattr(module, "RULE"))


def run_rules(comparison: Comparison, allow: Sequence[Allowance] = ()) -> list[Finding]:
    """Run every rule that may find something, phase by phase, and leave the findings in ``comparison.findings`` too.

    Rules of one phase do not see each other's findings, so their order does not matter. What is allowed is found all the same.
    """
    from ckptaudit.rules.allowance import as_allowed, excuse

    asked = _rules_of(tuple(package for package, is_asked in _ASKED.items() if is_asked(comparison)))
    for phase in _PHASES:
        found = [finding for rule, check in asked if rule.phase == phase for finding in check(comparison)]
        comparison.findings += [_with_origin(finding, comparison.model.graph) for finding in found]
    comparison.findings = [
        as_allowed(finding, "the caller lets it keep its values") if comparison.waives(finding) else finding
        for finding in excuse(comparison.findings, allow)
    ]
    return comparison.findings


def _with_origin(finding: Finding, graph: LayerGraph) -> Finding:
    """Point the finding to the line that attached the module of all that it is about, or its first, or the nearest above."""
    if not finding.model or finding.origin:
        return finding
    from ckptaudit.graph.names import common_prefix, parent
    from ckptaudit.records import replace

    origin = _origin_of(common_prefix(finding.model), graph) or _origin_of(parent(finding.model[0]), graph)
    return replace(finding, origin=origin)


def _origin_of(path: str, graph: LayerGraph) -> Origin | None:
    """The line that attached the module ``path``, or the nearest above it that has one; the model itself is none."""
    from ckptaudit.graph.names import parent

    while path:
        if (module := graph.modules.get(path)) is not None and module.origin is not None:
            return module.origin
        path = parent(path)
    return None
