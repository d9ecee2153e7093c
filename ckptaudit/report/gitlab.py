"""GitLab's code quality report: a list of issues, shown beside the changed lines of a merge request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit.report._places import Place, fingerprinted, place_of
from ckptaudit.report.json import dump
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.report import Entry, Options

_SEVERITIES = {"error": "critical", "warning": "minor", "note": "info"}


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """One issue for each finding that is not allowed, and a blocker for each audit that could not run."""
    return dump([issue for entry in entries for issue in _issues(entry)])


def _issues(entry: Entry) -> list[dict[str, Any]]:
    if entry.audit is None:
        return [_issue("not-audited", "blocker", f"{entry.title} could not be audited: {entry.error}", entry.title, place_of(entry))]
    return [
        _issue(
            finding.rule,
            _SEVERITIES[finding.severity],
            f"{entry.title}: {finding.message}" + (f" Fix: {finding.fix}." if finding.fix else ""),
            fingerprint,
            place_of(entry, finding),
        )
        for finding, fingerprint in fingerprinted(entry)
        if not finding.allowed
    ]


def _issue(rule: str, severity: str, description: str, fingerprint: str, place: Place | None) -> dict[str, Any]:
    return {
        "description": printable(description),
        "check_name": rule,
        "fingerprint": fingerprint,
        "severity": severity,
        "location": {"path": printable(place.path) if place else "ckptaudit", "lines": {"begin": (place and place.line) or 1}},
    }
