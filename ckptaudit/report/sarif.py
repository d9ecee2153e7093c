"""SARIF 2.1.0, for code scanning: one run, a result for each finding on the line of model code that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ckptaudit._version import __version__
from ckptaudit.report._places import Place, fingerprinted, place_of
from ckptaudit.report._rule_pages import rule_pages
from ckptaudit.report.json import dump
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
_MAX_LOGICAL = 20
_NOT_AUDITED = {
    "id": "not-audited",
    "shortDescription": {"text": "Could not be audited"},
    "fullDescription": {
        "text": "The checkpoint could not be read or the model could not be built, so nothing is known of whether they fit."
    },
    "defaultConfiguration": {"level": "error"},
}


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """One run for all audits; an audit that could not run makes it an unsuccessful one, and is an error among the results."""
    rules = [*map(_rule, rule_pages()), _NOT_AUDITED]
    index = {rule["id"]: position for position, rule in enumerate(rules)}
    results = [result for entry in entries for result in _results(entry, index)]
    run = {
        "tool": {"driver": {"name": "ckptaudit", "version": __version__, "semanticVersion": __version__, "rules": rules}},
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The root of the repository."}}},
        "columnKind": "utf16CodeUnits",
        "invocations": [
            {
                "executionSuccessful": all(entry.audit for entry in entries),
                "toolExecutionNotifications": [
                    {"level": "error", "message": _text(f"{entry.title}: {entry.error}")} for entry in entries if entry.audit is None
                ],
            }
        ],
        "results": results,
        "properties": {"audits": [_summary(entry) for entry in entries]},
    }
    return dump({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: str) -> dict[str, Any]:
    page = rule_pages()[rule]
    return {
        "id": rule,
        "shortDescription": {"text": page.title},
        "fullDescription": {"text": page.says},
        "help": {"text": page.markdown or page.says, "markdown": page.markdown or page.says},
        "defaultConfiguration": {"level": page.severity},
    }


def _results(entry: Entry, index: dict[str, int]) -> list[dict[str, Any]]:
    if entry.audit is None:
        message = _text(f"{entry.title} could not be audited: {entry.error}")
        return [
            {
                "ruleId": "not-audited",
                "ruleIndex": index["not-audited"],
                "level": "error",
                "message": message,
                **_locations(place_of(entry), []),
            }
        ]
    return [_result(entry, finding, fingerprint, index) for finding, fingerprint in fingerprinted(entry)]


def _result(entry: Entry, finding: Finding, fingerprint: str, index: dict[str, int]) -> dict[str, Any]:
    place = place_of(entry, finding)
    modules = [{"fullyQualifiedName": printable(name), "kind": "member"} for name in (finding.model or finding.checkpoint)[:_MAX_LOGICAL]]
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        **({"ruleIndex": index[finding.rule]} if finding.rule in index else {}),
        "level": finding.severity,
        "rank": round(100 * finding.confidence, 1),
        "message": _text(f"{entry.title}: {finding.message}" + (f" Fix: {finding.fix}." if finding.fix else "")),
        **_locations(place, modules),
        "partialFingerprints": {"ckptauditFinding/v1": fingerprint},
    }
    if finding.origin and (place is None or place.line != finding.origin.line):
        elsewhere = Place(Path(finding.origin.path).absolute().as_posix(), finding.origin.line, False)
        result["relatedLocations"] = [{**_physical(elsewhere), "message": {"text": "The line that attached the layer, in a library."}}]
    if finding.allowed:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": printable(finding.allowed)}]
    return result


def _locations(place: Place | None, modules: list[dict[str, str]]) -> dict[str, Any]:
    location = {**(_physical(place) if place else {}), **({"logicalLocations": modules} if modules else {})}
    return {"locations": [location]} if location else {}


def _physical(place: Place) -> dict[str, Any]:
    # Escaped as printable text, a name with a line feed in it would be the URI of another file; percent signs keep it.
    path = quote(place.path.encode("utf-8", "backslashreplace"))
    artifact = {"uri": path, "uriBaseId": _ROOT} if place.inside else {"uri": f"file://{'' if path.startswith('/') else '/'}{path}"}
    # A checkpoint has no lines, but code scanning shows nothing that has none.
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": place.line or 1}}}


def _summary(entry: Entry) -> dict[str, Any]:
    summary: dict[str, Any] = {"title": printable(entry.title), "passed": entry.passed, "summary": printable(entry.summary)}
    if entry.audit:
        matched, total = entry.audit.coverage.parameters
        summary |= {"status": entry.audit.verdict.status, "intent": entry.audit.verdict.intent, "parameters": [matched, total]}
    return summary


def _text(text: str) -> dict[str, str]:
    """A message; ``[words](target)`` would be a link in it."""
    return {"text": printable(text).replace("](", "] (")}
