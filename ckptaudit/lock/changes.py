"""The outcome of a check beside that of another revision."""

from __future__ import annotations

from typing import Any, Literal

from ckptaudit._version import __version__
from ckptaudit.lock.checking import Checked
from ckptaudit.lock.revisions import Base
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.finding import STATUSES, Finding

SCHEMA = "ckptaudit.check/1"

Change = Literal["broken", "mended", "worse", "changed", "new", "same", "not-audited"]


@dataclass(frozen=True, eq=False)
class Result:
    """One contract as a report shows it.

    Attributes
    ----------
    checked:
        The contract as it is now; beside a base, with those findings only that the base does not have, and what is allowed.
    change:
        What became of it since the base; None without a base.
    holds:
        Whether it passes: beside a base, whether the change is not to blame.
    remark:
        One sentence for people.
    """

    checked: Checked
    change: Change | None
    holds: bool
    remark: str


@dataclass(frozen=True, eq=False)
class Check:
    """A whole check.

    Attributes
    ----------
    results:
        One per contract, in the order of the configuration.
    base:
        The other revision, where there was one.
    withdrawn:
        Contracts that only the base has.
    """

    results: tuple[Result, ...]
    base: Base | None = None
    withdrawn: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values, schema ``ckptaudit.check/1``."""
        base = self.base
        return {
            "schema": SCHEMA,
            "tool": {"name": "ckptaudit", "version": __version__},
            "base": None if base is None else {"revision": base.revision, "commit": base.commit, "error": base.error or None},
            "passed": all(result.holds for result in self.results),
            "contracts": [_to_json(result) for result in self.results],
            "withdrawn": list(self.withdrawn),
        }


def check_of(checked: list[Checked], base: Base | None = None) -> Check:
    """Lay the contracts beside those of the base, if there is one."""
    if base is None:
        return Check(tuple(Result(one, None, one.holds, _remark(one, None)) for one in checked))
    before = {contract["name"]: contract for contract in base.report["contracts"]} if base.report else {}
    results = tuple(_beside(one, before.get(one.contract.name)) for one in checked)
    now = {one.contract.name for one in checked}
    return Check(results, base, tuple(name for name in before if name not in now))


def _beside(checked: Checked, before: dict[str, Any] | None) -> Result:
    audit = checked.audit
    if audit is None:
        return Result(checked, "not-audited", False, "")
    if before is None or before["outcome"] == "not-audited":
        remark = _remark(checked, "new")
        if before is not None:
            remark += f" The base could not be audited: {before['error']}"
        return Result(checked, "new", checked.holds, remark)
    known = {_key(finding) for finding in before["findings"]}
    fresh = tuple(finding for finding in audit.findings if _key(finding.to_json()) not in known)
    change = _change(checked, before, fresh)
    shown = replace(checked, audit=replace(audit, findings=tuple(f for f in audit.findings if f.allowed or f in fresh)))
    return Result(shown, change, checked.holds or change == "same", _remark(checked, change))


def _change(checked: Checked, before: dict[str, Any], fresh: tuple[Finding, ...]) -> Change:
    assert checked.audit is not None  # noqa: S101 (for the type checker; the caller has looked)
    held = before["holds"]
    if held != checked.holds:
        return "broken" if held else "mended"
    status = checked.audit.verdict.status
    worse = STATUSES.index(status) - STATUSES.index(before["status"])
    bearing = [finding for finding in fresh if finding.severity != "note"]
    if not held:
        return "worse" if worse > 0 or bearing else "same"
    return "changed" if worse or bearing else "same"


def _key(finding: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a finding the same one in two revisions: all but the line, which moves."""
    return finding["rule"], finding["severity"], finding["message"], tuple(finding["checkpoint"]), tuple(finding["model"])


def _remark(checked: Checked, change: Change | None) -> str:
    if checked.audit is None:
        return ""
    since = ""
    if checked.since is not None:
        was = f"`{checked.since.was}` became " if checked.since.was else ""
        layer = f"{was}`{checked.since.layer}`" if checked.since.layer else ""
        origin = checked.since.origin
        place = f"`{origin.path}:{origin.line}`" if origin else ""
        since = f", since {layer}{f' ({place})' if layer and place else place}" if layer or place else ""
    state = {"restores": "Still restores", "with-plan": f"Restores only with a plan{since}", "broken": f"Broken{since}"}[checked.outcome]
    by = {
        "broken": ". This change broke it",
        "mended": ". This change mended it",
        "worse": ". It was broken before, and this change made it worse",
        "changed": ". This change is why" if since else "",
        "new": ". There is nothing to compare with in the base",
        "same": ", as before this change",
    }
    return f"{state}{by.get(change or '', '')}."


def _to_json(result: Result) -> dict[str, Any]:
    checked = result.checked
    contract, audit, since = checked.contract, checked.audit, checked.since
    return {
        "name": contract.name,
        "checkpoint": contract.checkpoint,
        "arch": contract.arch,
        "intent": contract.intent,
        "location": {"path": checked.location.path, "line": checked.location.line},
        "outcome": checked.outcome,
        "change": result.change,
        "holds": result.holds,
        "status": audit.verdict.status if audit else None,
        "summary": audit.verdict.summary if audit else None,
        "error": checked.error or None,
        "remark": result.remark or None,
        "since": None
        if since is None
        else {"layer": since.layer, "origin": {"path": since.origin.path, "line": since.origin.line} if since.origin else None},
        "coverage": audit.coverage.to_json() if audit else None,
        "findings": [{**finding.to_json(), "allowed": finding.allowed or None} for finding in audit.findings] if audit else [],
        "renames": [{"pattern": rule.pattern, "replacement": rule.replacement} for rule in audit.plan.rules] if audit else [],
    }
