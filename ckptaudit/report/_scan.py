"""The outcome of ``ckptaudit scan``: one line per file with its findings below, or JSON."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.report._words import nbytes, plural
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.report import Options
    from ckptaudit.rules.finding import Finding, Severity
    from ckptaudit.scanning import FileScan, Scan

#: Escape sequences (SGR) by what is shown. Lines as simple as these do without rich, whose import takes longer than most scans.
_STYLES = MappingProxyType({"error": "1;31", "warning": "33", "note": "36", "clean": "2", "dim": "2", "fix": "32", "bold": "1"})
_MARKS = MappingProxyType({"clean": ("✓", "1;32"), "findings": ("✗", "1;31")})
_UNREADABLE = ("?", "1;31")


def render_scan(scan: Scan, output_format: str, options: Options, bar: Severity) -> str:
    """The scan as text. What could not be read is told of on standard error by the command, and among several files here, too."""
    if output_format == "json":
        from ckptaudit.report.json import dump

        return dump(scan.to_json())
    lines: list[str] = []
    for file in scan.files:
        status = file.status(bar)
        if options.quiet and status == "clean":
            continue
        if status == "unreadable" and len(scan.files) == 1:
            continue
        if status == "unreadable":
            lines += [f"{_styled(*_UNREADABLE, options)} {printable(str(file.path))}", *_wrapped(file.reason, options)]
            continue
        lines.append(_file_line(file, status, options))
        if not options.quiet:
            for finding in file.findings:
                if finding.severity != "note" or options.verbose or len(scan.files) == 1:
                    lines += _finding_lines(finding, options)
    if len(scan.files) != 1 or (scan.skipped and not scan.files[0].reason):
        counts = [f"{scan.count(status, bar):,} {words}" for status, words in _SUMMARY if scan.count(status, bar)]
        other = f" · {plural(scan.skipped, 'other file')} passed over" if scan.skipped else ""
        lines.append(_styled(f"{plural(len(scan.files), 'file')}: {', '.join(counts)}{other}", _STYLES["bold"], options))
    return "".join(f"{line}\n" for line in lines)


_SUMMARY = (("clean", "clean"), ("findings", "with findings"), ("unreadable", "not readable"))


def _file_line(file: FileScan, status: str, options: Options) -> str:
    mark, style = _MARKS[status]
    size = f"{file.format}, {nbytes(file.nbytes)}" + (f" · {plural(file.tensors, 'tensor')}" if file.tensors else "")
    worst = file.findings[0].severity if file.findings and status == "findings" else "clean" if status == "clean" else ""
    told = _styled(f"  {size}", _STYLES["dim"], options), _styled(f" · {worst}", _STYLES.get(worst, ""), options)
    return f"{_styled(mark, style, options)} {printable(str(file.path))}{''.join(told)}"


def _finding_lines(finding: Finding, options: Options) -> list[str]:
    lines = [f"  {_styled(finding.severity, _STYLES[finding.severity], options)}  {finding.rule}", *_wrapped(finding.message, options)]
    if finding.fix:
        first, *rest = _wrapped(f"fix  {finding.fix}", options)
        lines += [first.replace("fix", _styled("fix", _STYLES["fix"], options), 1), *rest]
    if options.verbose and len(finding.checkpoint) > 1:
        lines += [_styled(line, _STYLES["dim"], options) for line in _wrapped(", ".join(finding.checkpoint), options, 20_000)]
    return lines


def _wrapped(text: str, options: Options, limit: int = 2000) -> list[str]:
    """Printable lines, four blanks in."""
    import textwrap

    lines = textwrap.wrap(printable(text, limit), options.width - 4, break_on_hyphens=False)
    return [f"    {line}" for line in lines]


def _styled(text: str, style: str, options: Options) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if options.color and style else text
