"""What a scan found, as data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ckptaudit._version import __version__
from ckptaudit.read import RefusedGlobal
from ckptaudit.records import dataclass
from ckptaudit.rules.finding import SEVERITIES, Finding, Severity
from ckptaudit.rules.pickled.refused_global import grade

SCHEMA = "ckptaudit.scan/1"


@dataclass(frozen=True, slots=True)
class FileScan:
    """One file.

    Attributes
    ----------
    path:
        As it was named, or as it was found in a folder.
    format:
        As ``ckptaudit show`` calls it; ``""`` where it could not be read.
    nbytes, tensors:
        Size of the file with its shards, and the number of tensors in all branches.
    findings:
        What was found, the worst first.
    refused_globals:
        What its pickles name and was not imported.
    reason:
        Why it could not be read, in one line; ``""`` where it was.
    covered:
        Other files that were read as parts of this one: shards, external data.
    """

    path: Path
    format: str = ""
    nbytes: int = 0
    tensors: int = 0
    findings: tuple[Finding, ...] = ()
    refused_globals: tuple[RefusedGlobal, ...] = ()
    reason: str = ""
    covered: frozenset[Path] = frozenset()

    def status(self, bar: Severity = "warning") -> Literal["clean", "findings", "unreadable"]:
        """``findings`` where at least one is as severe as ``bar``."""
        if self.reason:
            return "unreadable"
        worst = max((SEVERITIES.index(finding.severity) for finding in self.findings), default=-1)
        return "findings" if worst >= SEVERITIES.index(bar) else "clean"

    def to_json(self) -> dict[str, Any]:
        """The file as JSON values, in the form that ``ckptaudit.scan/1`` fixes."""
        return {
            "path": str(self.path),
            "format": self.format or None,
            "bytes": self.nbytes,
            "tensors": self.tensors,
            "status": self.status(),
            "reason": self.reason or None,
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "confidence": finding.confidence,
                    "message": finding.message,
                    "tensors": list(finding.checkpoint),
                    "fix": finding.fix,
                }
                for finding in self.findings
            ],
            "refused_globals": [
                {
                    "name": found.name,
                    "grade": grade(found.name, called=found.called),
                    "called": found.called,
                    "arguments": found.arguments,
                    "pickle": found.pickle,
                    "position": found.position,
                }
                for found in self.refused_globals
            ],
        }


@dataclass(frozen=True, slots=True)
class Scan:
    """All files of one scan, and how many others in its folders are no checkpoints."""

    files: tuple[FileScan, ...]
    skipped: int = 0

    def count(self, status: str, bar: Severity = "warning") -> int:
        """How many files have this status."""
        return sum(file.status(bar) == status for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The scan as JSON values, schema ``ckptaudit.scan/1``."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "ckptaudit", "version": __version__},
            "summary": {
                "files": len(self.files),
                **{status: self.count(status) for status in ("clean", "findings", "unreadable")},
                "skipped": self.skipped,
            },
            "files": [file.to_json() for file in self.files],
        }


def by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, equals in their order."""
    return tuple(sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity)))
