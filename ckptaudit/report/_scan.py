"""The outcome of ``ckptaudit scan``: one line per file with its findings below, or JSON."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ckptaudit.report._words import nbytes, plural
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.report import Options
    from ckptaudit.rules.finding import Finding, Severity
    from ckptaudit.scanning import FileScan, Scan

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"clean": ("✓", "bold green"), "findings": ("✗", "bold red"), "unreadable": ("?", "bold red")}


def render_scan(scan: Scan, output_format: str, options: Options, bar: Severity) -> str:
    """The scan as text; files that could not be read are told of on standard error, by the command."""
    if output_format == "json":
        from ckptaudit.report.json import dump

        return dump(scan.to_json())
    out = io.StringIO()
    console = Console(
        file=out, width=options.width, force_terminal=options.color, no_color=not options.color, highlight=False, markup=False
    )
    for file in scan.files:
        status = file.status(bar)
        if status == "unreadable" or (options.quiet and status == "clean"):
            continue
        _print_file(console, file, *_MARKS[status])
        if not options.quiet:
            for finding in file.findings:
                if finding.severity != "note" or options.verbose or len(scan.files) == 1:
                    _print_finding(console, finding, options)
    if len(scan.files) != 1:
        counts = [f"{scan.count(status, bar):,} {words}" for status, words in _SUMMARY if scan.count(status, bar)]
        other = f" · {plural(scan.skipped, 'other file')} passed over" if scan.skipped else ""
        console.print(Text(f"{plural(len(scan.files), 'file')}: {', '.join(counts)}{other}", style="bold"))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


_SUMMARY = (("clean", "clean"), ("findings", "with findings"), ("unreadable", "not readable"))


def _print_file(console: Console, file: FileScan, mark: str, style: str) -> None:
    size = f"{file.format}, {nbytes(file.nbytes)}" + (f" · {plural(file.tensors, 'tensor')}" if file.tensors else "")
    worst = file.findings[0].severity if file.findings and mark == "✗" else "clean" if mark == "✓" else ""
    line = Text(mark, style=style).append(f" {printable(str(file.path))}", style="default not bold").append(f"  {size}", style="dim")
    console.print(line.append(f" · {worst}", style=_STYLES.get(worst, "dim")), soft_wrap=True)


def _print_finding(console: Console, finding: Finding, options: Options) -> None:
    console.print(
        Padding(Text(finding.severity, style=_STYLES[finding.severity]).append(f"  {finding.rule}", style="default"), (0, 0, 0, 2))
    )
    console.print(Padding(Text(printable(finding.message)), (0, 0, 0, 4)))
    if finding.fix:
        console.print(Padding(Text("fix  ", style="green").append(printable(finding.fix), style="default"), (0, 0, 0, 4)))
    if options.verbose and len(finding.checkpoint) > 1:
        console.print(Padding(Text(printable(", ".join(finding.checkpoint), 20_000), style="dim"), (0, 0, 0, 4)))
