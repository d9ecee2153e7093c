"""The terminal: the diagnosis first, then coverage, then findings by weight, then the next command to type."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckptaudit.lazily import compiled_when_used
from ckptaudit.report._folding import Row, build_tree, folded_rows, name_patterns
from ckptaudit.report._next import next_command
from ckptaudit.report._places import nearest
from ckptaudit.report._sides import fact_rows, file_in_words, model_in_words, size_in_words, tensors_covered
from ckptaudit.report._words import count, nbytes, plural, share
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.graph import LayerGraph, TensorSpec
    from ckptaudit.pipeline import Audit
    from ckptaudit.read import Checkpoint
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_STATUS_STYLES = {"compatible": "bold green", "remappable": "bold green", "partial": "bold yellow", "incompatible": "bold red"}
_BAR = 20
#: Behind these a long name is broken; not within ``0..9``.
_BREAK = compiled_when_used(r"[,/]|(?<!\.)\.(?!\.)")
_MAX_MODULES = 12
_MAX_PATTERNS = 4
_MAX_TREE_ROWS = 200
_MAX_METADATA, _MAX_METADATA_VERBOSE = 100, 2000


def render_audit(audit: Audit, options: Options) -> str:
    """One page: verdict, coverage, facts, findings, next command."""
    from ckptaudit.report._entries import Entry

    return _audit_page(audit, Entry.of(audit, options.fail_on), options)


def _audit_page(audit: Audit, entry: Entry, options: Options) -> str:
    console, out = _console(options)
    verdict, passed = audit.verdict, entry.passed
    style = _STATUS_STYLES[verdict.status] if passed == verdict.fit else f"bold {'green' if passed else 'red'}"
    head = Text(f"{'✓' if passed else '✗'} {verdict.status}", style=style)
    sides = f"{audit.checkpoint.path.name} → {audit.model.arch}"
    head.append(f"  {_text(sides if entry.title == sides else f'{entry.title}: {sides}')}", style="default not bold")
    console.print(head, soft_wrap=True)
    for sentence in filter(None, (entry.remark, verdict.summary)):
        console.print(Padding(Text(_text(sentence)), (0, 0, 0, 2)))
    if options.quiet:
        return _page(out)
    console.print()
    _print_sides(console, audit)
    console.print()
    _print_coverage(console, audit)
    _print_facts(console, audit)
    for finding in audit.findings:
        console.print()
        _print_finding(console, finding, audit, options)
    if audit.plan.rules:
        console.print()
        _print_renames(console, audit)
    if command := next_command(audit):
        console.print()
        console.print(Text("next  ", style="bold").append(command), soft_wrap=True)
    return _page(out)


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """One line for each audit, then the pages of those that do not pass (of all with ``verbose``, of none with ``quiet``)."""
    console, out = _console(options)
    for entry in entries:
        style = "bold green" if entry.passed else "bold red"
        console.print(
            Text(f"{'✓' if entry.passed else '✗'} {_text(entry.title)}", style=style).append(f"  {entry.status}", style="default not bold"),
            soft_wrap=True,
        )
        for sentence in filter(None, (entry.remark, entry.summary)):
            console.print(Padding(Text(_text(sentence)), (0, 0, 0, 2)))
        if entry.passed and not options.verbose:
            _print_warnings(console, entry, options)
        for finding in entry.allowed:
            console.print(Padding(Text(f"allowed: {finding.rule} ({_text(finding.allowed)})", style="dim"), (0, 0, 0, 2)))
    pages = [
        _audit_page(entry.audit, entry, options)
        for entry in entries
        if entry.audit is not None and not options.quiet and (options.verbose or not entry.passed)
    ]
    return "\n".join([_page(out), *pages])


def _print_warnings(console: Console, entry: Entry, options: Options) -> None:
    """What is told of an audit that passes, and whose page is not shown: how many warnings, and how each begins."""
    warnings = [finding for finding in entry.findings if finding.severity == "warning"]
    if not warnings:
        return
    console.print(Padding(Text(f"{plural(len(warnings), 'warning')}; -v shows all of it", style=_STYLES["warning"]), (0, 0, 0, 2)))
    for finding in () if options.quiet else warnings:
        line = Text(f"    {finding.rule}: {_text(finding.message)}")
        line.truncate(options.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def render_checkpoint(checkpoint: Checkpoint, options: Options) -> str:
    """What the file holds: branches, metadata, and the layer tree with repeats folded."""
    console, out = _console(options)
    graph = checkpoint.graph
    console.print(Text(_text(str(checkpoint.path)), style="bold"), soft_wrap=True)
    dtypes = ", ".join(dict.fromkeys(spec.dtype for spec in graph))
    console.print(
        Padding(
            Text(f"{checkpoint.format}, {nbytes(checkpoint.nbytes)} · {size_in_words(graph)}" + (f" · {dtypes}" if dtypes else "")),
            (0, 0, 0, 2),
        )
    )
    if options.quiet:
        return _page(out)
    _print_branches(console, checkpoint)
    _print_metadata(console, checkpoint, options)
    for remark in checkpoint.remarks:
        console.print(Text("warning  ", style=_STYLES["warning"]).append(_text(remark)))
    if checkpoint.refused_globals:
        names = dict.fromkeys(g.name for g in checkpoint.refused_globals)
        console.print()
        console.print(Text("not imported  ", style="bold").append(_text(", ".join(names))))
    console.print()
    if not graph.tensors:
        console.print(Text("no tensors", style="bold"))
    rows = list(folded_rows(build_tree(graph), options.verbose))
    if graph.by_path.get("") is not None:
        console.print(Text(_tensors(graph.by_path[""].tensors)), soft_wrap=True)
    # One text for the whole tree: printing 100,000 lines one by one takes half a minute.
    console.print(Text("\n").join(_tree_line(row, options) for row in (rows if options.verbose else rows[:_MAX_TREE_ROWS])), soft_wrap=True)
    if len(rows) > _MAX_TREE_ROWS and not options.verbose:
        console.print(Text(f"… {len(rows) - _MAX_TREE_ROWS} more lines; -v shows them all", style="dim"))
    return _page(out)


def _tree_line(row: Row, options: Options) -> Text:
    line = Text("  " * row.depth + _text(row.name))
    if row.node.children and not row.node.layer:
        line.append(f"  {count(row.node.parameters)}" + (f" each, ×{row.repeats}" if row.repeats > 1 else ""), style="dim")
    if row.node.layer:
        line.append(f"  {row.node.layer.kind}", style="cyan").append(f"  {_tensors(row.node.layer.tensors)}", style="dim")
        if row.repeats > 1:
            line.append(f"  ×{row.repeats}", style="dim")
    if not options.verbose:
        line.truncate(options.width, overflow="ellipsis")
    return line


def _console(options: Options) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=options.width,
        force_terminal=options.color,
        color_system="standard" if options.color else None,
        no_color=not options.color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    return console, out


def _print_sides(console: Console, audit: Audit) -> None:
    checkpoint = audit.checkpoint
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("file", _text(file_in_words(audit)))
    table.add_row("model", _text(model_in_words(audit)))
    if len([b for b in checkpoint.branches if b.role in ("model", "ema")]) > 1:
        table.add_row("", _text(f"branch chosen: {checkpoint.branch_reason}"))
    console.print(table)


def _print_coverage(console: Console, audit: Audit) -> None:
    coverage = audit.coverage
    matched, total = coverage.parameters
    console.print(
        Text("coverage  ", style="bold").append(
            f"{share(matched, total)} of {count(total)} parameters, {tensors_covered(audit)}", style="default not bold"
        )
    )
    modules = sorted(coverage.modules, key=lambda m: -m.total)[:_MAX_MODULES] if len(coverage.modules) > _MAX_MODULES else coverage.modules
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right"):
        table.add_column(justify=justify, overflow="ellipsis", no_wrap=True)
    for module in modules:
        full = int(_BAR * module.matched / module.total) if module.total else 0
        style = "green" if module.matched == module.total else "yellow" if module.matched else "red"
        table.add_row(
            f"  {_text(module.module)}",
            Text("█" * full + "░" * (_BAR - full), style=style),
            share(module.matched, module.total),
            count(module.total),
        )
    console.print(table)
    if len(modules) < len(coverage.modules):
        console.print(Text(f"  … and {len(coverage.modules) - len(modules)} smaller modules", style="dim"))


def _print_facts(console: Console, audit: Audit) -> None:
    rows = fact_rows(audit)
    if not rows:
        return
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column(overflow="fold")
    console.print()
    table.add_row(Text("facts", style="bold"), Text("file", style="dim"), Text("model", style="dim"), "")
    for label, old, new, differs in rows:
        table.add_row(f"  {label}", _text(old), _text(new), Text("≠" if differs else "", style="bold yellow"))
    console.print(table)


def _print_finding(console: Console, finding: Finding, audit: Audit, options: Options) -> None:
    sure = "" if finding.confidence >= 0.95 else f"  ({finding.confidence:.0%} sure)"
    console.print(Text(finding.severity, style=_STYLES[finding.severity]).append(f"  {finding.rule}{sure}", style="bold default"))
    console.print(Padding(Text(_text(finding.message)), (0, 0, 0, 2)))
    for label, names, graph in (("file", finding.checkpoint, audit.checkpoint.graph), ("model", finding.model, audit.model.graph)):
        if names:
            _print_entry(console, label, _patterns(names, graph, options), options)
    if finding.origin and finding.severity != "note":
        _print_entry(console, "at", [_text(f"{nearest(finding.origin.path)}:{finding.origin.line}")], options)
    if finding.fix:
        _print_entry(console, "fix", textwrap.wrap(_text(finding.fix), options.width - 9), options)


def _print_entry(console: Console, label: str, entries: Sequence[str], options: Options) -> None:
    """A label and what belongs to it, one entry a line: a table of 100,000 names would take a minute, and one text of them seconds."""
    first, *more = [line for entry in entries for line in _broken(entry, options.width - 9)] or [""]
    console.print(Text(f"  {label:<5}  ", style="dim").append(first, style="default not dim"), soft_wrap=True)
    if more:
        console.out("\n".join(f"         {line}" for line in more), highlight=False)


def _print_renames(console: Console, audit: Audit) -> None:
    order = ", the first that matches counts" if len(audit.plan.rules) > 1 else ""
    doubt = "" if audit.plan.safe else "; not all are sure"
    console.print(
        Text("renames  ", style="bold").append(f"{plural(len(audit.plan.rules), 'rule')}{order}{doubt}", style="default not bold")
    )
    shown = audit.plan.rules[:_MAX_PATTERNS]
    for rule in shown:
        console.print(Text(_text(f"  re.sub(r{rule.pattern!r}, r{rule.replacement!r}, name)".replace("\\\\", "\\"))), soft_wrap=True)
    if len(audit.plan.rules) > len(shown):
        console.print(Text(f"  … and {len(audit.plan.rules) - len(shown)} more; --format json lists them", style="dim"))


def _print_branches(console: Console, checkpoint: Checkpoint) -> None:
    if len(checkpoint.branches) < 2 and not checkpoint.branch.name:
        return
    console.print()
    console.print(Text("branches", style="bold"))
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "left", "right", "right"):
        table.add_column(justify=justify, overflow="fold")
    for branch in checkpoint.branches:
        chosen = branch.name == checkpoint.branch.name
        table.add_row(
            "  →" if chosen else "",
            _text(branch.name) or "(top level)",
            branch.role,
            plural(len(branch.tensors), "tensor"),
            count(branch.parameters),
        )
    console.print(table)
    console.print(Padding(Text(_text(f"audited: {checkpoint.branch_reason}"), style="dim"), (0, 0, 0, 2)))


def _print_metadata(console: Console, checkpoint: Checkpoint, options: Options) -> None:
    if not checkpoint.metadata:
        return
    console.print()
    console.print(Text("metadata", style="bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=options.width // 2)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=options.width // 2)
    limit = _MAX_METADATA_VERBOSE if options.verbose else _MAX_METADATA
    for key, value in list(checkpoint.metadata.items())[:limit]:
        table.add_row(f"  {_text(str(key))}", Text(printable(str(value), 200), no_wrap=True, overflow="ellipsis"))
    console.print(table)
    if len(checkpoint.metadata) > limit:
        console.print(Text(f"  … {len(checkpoint.metadata) - limit:,} more values; --format json lists them", style="dim"))


def _broken(name: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, broken behind a comma, a dot or a slash where there is one."""
    lines = []
    while len(name) > width:
        cut = max((found.end() for found in _BREAK.finditer(name[: width + 1]) if found.end() <= width), default=0)
        lines.append(name[: cut or width])
        name = name[cut or width :]
    return [*lines, name]


def _page(out: io.StringIO) -> str:
    """What was printed, without the blanks that tables pad their lines with."""
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _patterns(names: Sequence[str], graph: LayerGraph, options: Options) -> list[str]:
    """Names folded; where that is still too much to read, whole modules as ``module.**``."""
    if options.verbose:
        return [_text(name) for name in names]
    folded = name_patterns(names, graph)
    shown = [_text(pattern) for pattern in folded[:_MAX_PATTERNS]]
    if len(folded) > len(shown):
        shown.append(f"… {len(folded) - len(shown)} more patterns (-v)")
    if len(names) > len(folded):
        shown[-1] += f"  ({plural(len(names), 'tensor')})"
    return shown


def _tensors(tensors: Mapping[str, TensorSpec]) -> str:
    parts = []
    for role, spec in tensors.items():
        shape = "×".join(map(str, spec.shape)) or "scalar"
        parts.append(f"{_text(role)} {shape}")
    return ", ".join(parts)


def _text(text: str) -> str:
    return printable(text)
