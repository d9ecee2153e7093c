"""Annotations for GitHub Actions: workflow commands that a runner turns into remarks on the changed lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckptaudit.report._places import Place, place_of
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """For each audit a line for the log, an annotation of the verdict where it does not pass, and one for each finding."""
    lines: list[str] = []
    for entry in entries:
        mark = "passed" if entry.passed else "failed"
        # A runner obeys the older "##[command]" anywhere in a line.
        lines.append(f"ckptaudit {mark}: {printable(entry.title)}: {printable(entry.summary)}".replace("##[", "# #["))
        if not entry.passed:
            lines.append(_command("error", place_of(entry), f"ckptaudit: {entry.title}", " ".join((entry.remark, entry.summary)).strip()))
        if not options.quiet:
            lines += [_annotation(finding, entry) for finding in entry.findings]
    return "\n".join(lines) + "\n"


def _annotation(finding: Finding, entry: Entry) -> str:
    message = " ".join(finding.message.split()) + (f"\nfix: {' '.join(finding.fix.split())}" if finding.fix else "")
    return _command(_COMMANDS[finding.severity], place_of(entry, finding), f"{finding.rule}: {entry.title}", message)


def _command(command: str, place: Place | None, title: str, message: str) -> str:
    at = f"file={_property(printable(place.path))},line={place.line or 1}," if place and place.inside else ""
    lines = "\n".join(map(printable, message.split("\n")))
    return f"::{command} {at}title={_property(printable(title, 200))}::{_data(lines)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
