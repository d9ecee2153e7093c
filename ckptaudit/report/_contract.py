"""How a model wants to be fed and read: for a terminal, as Markdown, or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckptaudit.report.json import dump
from ckptaudit.report.markdown import code, fenced, prose
from ckptaudit.report.terminal import _console, _page
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.contract import Contract
    from ckptaudit.report import Options

_MAX_VALUE = 120


def render_contract(contract: Contract, output_format: str, options: Options) -> str:
    """The statements with their sources, then the code; JSON is ``ckptaudit.contract/1``."""
    if output_format == "json":
        return dump(contract.to_json())
    return _markdown(contract) if output_format == "markdown" else _terminal(contract, options)


def _terminal(contract: Contract, options: Options) -> str:
    console, out = _console(options)
    known = contract.preprocessing is not None
    head = Text("✓ known" if known else "? not known", style="bold green" if known else "bold yellow")
    console.print(head.append(f"  {printable(contract.name)}", style="default not bold"), soft_wrap=True)
    told = (
        f"Fed by what is stated by {contract.preprocessing.source}."
        if contract.preprocessing is not None
        else "Nobody states how images are fed."
    )
    console.print(Padding(Text(printable(told)), (0, 0, 0, 2)))
    if options.quiet:
        return _page(out)
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for statement in contract.statements:
        table.add_row(statement.what, Text(_shown(statement.value)), Text(printable(statement.source), style="dim"))
    console.print()
    console.print(table)
    for line in contract.open:
        console.print()
        console.print(Text("open  ", style="cyan").append(printable(line), style="default"))
    for library, text in contract.code.items():
        console.print()
        console.print(Text(f"# {library}", style="bold"))
        console.print(Text(text.rstrip()), soft_wrap=True)
    return _page(out)


def _markdown(contract: Contract) -> str:
    lines = [f"## ckptaudit contract: {code(contract.name)}", "", "| | | says |", "|---|---|---|"]
    lines += [f"| {s.what} | {code(_shown(s.value))} | {prose(s.source)} |" for s in contract.statements]
    lines += [f"\nOpen: {prose(line)}" for line in contract.open]
    for library, text in contract.code.items():
        lines += ["", f"### {library}", "", fenced(text.rstrip().splitlines(), "python")]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return printable(", ".join(_shown(item) for item in value), _MAX_VALUE)
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value), _MAX_VALUE)
