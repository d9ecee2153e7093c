"""Holding the models as the code is now against the lock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ckptaudit.arch.failures import shown_path
from ckptaudit.errors import CkptAuditError, ContractError, LockError
from ckptaudit.graph import LayerGraph, Origin
from ckptaudit.graph.names import parent
from ckptaudit.lock.building import build_contract, project_first
from ckptaudit.lock.contracts import Contract, Project
from ckptaudit.lock.document import load_lock
from ckptaudit.lock.locked import Locked
from ckptaudit.pipeline import Audit, compare
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.allowance import UNUSED
from ckptaudit.rules.finding import Finding
from ckptaudit.verdict import Bar


@dataclass(frozen=True, slots=True)
class Since:
    """The first layer, in definition order, at which a contract is not kept as it was locked, and the line that attached it.

    ``was`` is what the released file calls the layer, where that is known and is another name.
    """

    layer: str
    origin: Origin | None
    was: str = ""


@dataclass(frozen=True, eq=False)
class Checked:
    """What became of one contract.

    Attributes
    ----------
    contract:
        The promise.
    location:
        Its line in the configuration.
    audit:
        The outcome; None where it could not be audited.
    error:
        Why it could not be.
    holds:
        Whether it is better than the bar.
    since:
        Where it begins to differ; None where nothing differs.
    """

    contract: Contract
    location: Origin
    audit: Audit | None = None
    error: str = ""
    holds: bool = False
    since: Since | None = None

    @property
    def outcome(self) -> str:
        """``restores``, ``with-plan``, ``broken`` or ``not-audited``."""
        if self.audit is None:
            return "not-audited"
        if not self.audit.verdict.fit:
            return "broken"
        return "restores" if self.audit.verdict.status == "compatible" else "with-plan"


def check_project(project: Project, *, fail_on: Bar | None = None) -> list[Checked]:
    """Check every contract, in the order of the configuration.

    Parameters
    ----------
    project:
        The contracts.
    fail_on:
        The verdict from which on a contract is broken; by default the project's own, and else whatever does not serve the intent.

    Raises
    ------
    LockError
        There is no lock, or it cannot be read. What is wrong with one contract alone is told of that contract.
    """
    lock = load_lock(project.lock)
    bar = fail_on or project.fail_on
    with project_first(project):
        return [check_contract(project, contract, lock, bar) for contract in project.contracts]


def check_contract(project: Project, contract: Contract, lock: Mapping[str, Locked], bar: Bar | None) -> Checked:
    """Check one contract; an error is told, not raised."""
    location = Origin(shown_path(project.configuration), contract.line)
    try:
        entry = _entry(project, contract, lock)
        outcome = compare(entry.checkpoint, build_contract(project, contract), intent=contract.intent, allow=contract.allow)
    except CkptAuditError as error:
        return Checked(contract, location, error=str(error))
    located = [_located(finding, outcome, project.root) for finding in outcome.findings]
    outcome = replace(outcome, findings=(*located, *_unused(contract, outcome, location)))
    return Checked(contract, location, outcome, holds=outcome.verdict.passes(bar), since=_since(outcome, project.root))


def _entry(project: Project, contract: Contract, lock: Mapping[str, Locked]) -> Locked:
    entry = lock.get(contract.name)
    if entry is None:
        raise LockError(f"contract {contract.name!r} is not in {project.lock.name}; run `ckptaudit lock`")
    if changes := entry.changes(contract):
        changed = ", ".join(changes)
        raise ContractError(f"contract {contract.name!r} is not as it was locked ({changed} changed); run `ckptaudit lock`, and review it")
    return entry


def _unused(contract: Contract, outcome: Audit, location: Origin) -> list[Finding]:
    return [
        replace(
            UNUSED.finding(
                f"The contract allows {allowance.rule}{f' for {names}' if (names := ', '.join(allowance.names)) else ''} "
                f"({allowance.reason}), and there is no such finding.",
                fix="take the allowance out: it would hide what it was not meant for",
            ),
            origin=location,
        )
        for allowance in contract.allow
        if not any(finding.allowed == allowance.reason and allowance.covers(finding) for finding in outcome.findings)
    ]


def _since(outcome: Audit, root: Path) -> Since | None:
    """The first tensor of the model, in definition order, that a finding is about which bears on the verdict."""
    bearing = [finding for finding in outcome.findings if finding.status != "compatible" and not finding.allowed]
    about = {name for finding in bearing for name in finding.model}
    graph = outcome.model.graph
    first = next((name for name in graph.tensors if name in about), None)
    if first is not None:
        layer = parent(first) or first
        step = next((step for step in outcome.plan.steps if step.target == first and step.sure), None)
        was = parent(step.sources[0]) or step.sources[0] if step is not None else layer
        return Since(layer, own_origin(graph, first, root), "" if was == layer else was)
    return next((Since("", finding.origin) for finding in bearing if finding.origin), None)


def _located(finding: Finding, outcome: Audit, root: Path) -> Finding:
    """The finding at a line of the project's own code: that of the nearest module above which was attached there."""
    if not finding.model:
        return finding
    return replace(finding, origin=own_origin(outcome.model.graph, finding.model[0], root) or finding.origin)


def own_origin(graph: LayerGraph, name: str, root: Path) -> Origin | None:
    """The line of code below ``root`` that attached the module which owns the tensor ``name``, or the nearest one above it."""
    path = parent(name)
    while True:
        module = graph.modules.get(path)
        if module is not None and module.origin is not None:
            file = Path(module.origin.path).absolute()
            if file.is_relative_to(root) and "site-packages" not in file.parts:
                return module.origin
        if not path:
            return None
        path = parent(path)
