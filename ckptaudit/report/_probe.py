"""What a probe found: for a terminal, as Markdown, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckptaudit.report.json import dump
from ckptaudit.report.markdown import code, prose
from ckptaudit.report.terminal import _console, _page
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.probe import Hypothesis, Probe
    from ckptaudit.report import Options

_MARKS = {
    "cause": ("✗", "bold red"),
    "possible": ("?", "bold yellow"),
    "cannot tell": ("–", "cyan"),
    "not tested": ("–", "dim"),
    "cleared": ("✓", "green"),
}
_MAX_PLACES = 5


def render_probe(probe: Probe, output_format: str, options: Options) -> str:
    """The hypotheses, the likeliest cause first; JSON is ``ckptaudit.probe/1``."""
    if output_format == "json":
        return dump(probe.to_json())
    return _markdown(probe) if output_format == "markdown" else _terminal(probe, options)


def _likely(probe: Probe) -> list[Hypothesis]:
    """The causes, or what may be one."""
    return list(probe.causes) or [hypothesis for hypothesis in probe.hypotheses if hypothesis.status == "possible"]


def _diagnosis(probe: Probe) -> str:
    """The answer where nothing follows it: what was found, with its figures."""
    likely = _likely(probe)
    return f"{'' if probe.causes else 'No cause is sure. '}{likely[0].message}" if likely else _answer(probe)


def _answer(probe: Probe) -> str:
    """What was found, by title: the figures follow."""
    if likely := _likely(probe):
        found = "; ".join(f"{hypothesis.title} ({hypothesis.sure:.0%} sure)" for hypothesis in likely)
        return found[0].upper() + found[1:] + "." if probe.causes else f"No cause is sure; possible: {found}."
    tested = sum(hypothesis.status not in ("not tested", "cannot tell") for hypothesis in probe.hypotheses)
    return f"No cause was found; {tested} of {len(probe.hypotheses)} hypotheses were tested and cleared."


def _head(probe: Probe) -> str:
    names = " → ".join(filter(None, (probe.checkpoint, probe.arch)))
    return names or "mask"


def _terminal(probe: Probe, options: Options) -> str:
    console, out = _console(options)
    found = bool(probe.causes)
    head = Text("✗ cause found" if found else "✓ no cause found", style="bold red" if found else "bold green")
    console.print(head.append(f"  {printable(_head(probe))}", style="default not bold"), soft_wrap=True)
    console.print(Padding(Text(printable(_diagnosis(probe) if options.quiet else _answer(probe))), (0, 0, 0, 2)))
    if options.quiet:
        return _page(out)
    for hypothesis in probe.hypotheses:
        mark, style = _MARKS[hypothesis.status]
        sure = f"  ({hypothesis.sure:.0%} sure)" if hypothesis.status in ("cause", "possible") else ""
        console.print()
        line = Text(f"{mark} {hypothesis.status}", style=style).append(f"  {hypothesis.title}{sure}", style="bold default")
        console.print(line)
        console.print(Padding(Text(printable(hypothesis.message)), (0, 0, 0, 2)))
        for label, text in _details(hypothesis, options.verbose):
            console.print(Padding(Text(f"{label}  ", style="dim").append(printable(text), style="default not dim"), (0, 0, 0, 2)))
        if scores := hypothesis.figures.get("scores"):
            console.print(Padding(_scores(scores), (0, 0, 0, 2)))
    if options.verbose and probe.agreement is not None:
        console.print()
        console.print(_layers(probe))
    for remark in probe.remarks:
        console.print()
        console.print(Text("note  ", style="cyan").append(printable(remark), style="default"))
    return _page(out)


def _details(hypothesis: Hypothesis, verbose: bool) -> Iterator[tuple[str, str]]:
    places = hypothesis.place if verbose else hypothesis.place[:_MAX_PLACES]
    if len(hypothesis.place) > 1:
        more = f" and {len(hypothesis.place) - len(places)} more" if len(places) < len(hypothesis.place) else ""
        yield "where", ", ".join(places) + more
    if hypothesis.fix:
        yield "do   ", hypothesis.fix


def _scores(scores: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    table.add_row(*(Text(word, style="dim") for word in ("input", "first BN", "mean", "")))
    for score in scores:
        table.add_row(printable(score["words"]), f"{score['first']:,.3f}", f"{score['mean']:,.3f}", _role(score))
    return table


def _role(score: dict[str, Any]) -> str:
    return ", ".join(word for key, word in (("given", "what you do"), ("stated", "what is stated")) if score[key])


def _layers(probe: Probe) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    table.add_row(*(Text(word, style="dim") for word in ("BatchNorm", "as it runs", "on its own", "")))
    assert probe.agreement is not None  # noqa: S101 (asked before)
    for layer in probe.agreement.layers:
        table.add_row(printable(layer.path), f"{layer.running:.3f}", f"{layer.alone:.3f}", "sees the input" if layer.sees_input else "")
    return table


def _markdown(probe: Probe) -> str:
    lines = [
        f"## ckptaudit probe: {'✗ cause found' if probe.causes else '✓ no cause found'}",
        "",
        code(_head(probe)),
        "",
        prose(_answer(probe)),
        "",
    ]
    lines += ["| | | how sure | figures | do |", "|---|---|---:|---|---|"]
    for hypothesis in probe.hypotheses:
        sure = f"{hypothesis.sure:.0%}" if hypothesis.status in ("cause", "possible") else "–"
        cells = (
            f"{_MARKS[hypothesis.status][0]} {hypothesis.status}",
            hypothesis.title,
            sure,
            prose(hypothesis.message),
            prose(hypothesis.fix),
        )
        lines.append(f"| {' | '.join(cells)} |")
    scores: list[dict[str, Any]] = next(
        (hypothesis.figures["scores"] for hypothesis in probe.hypotheses if hypothesis.figures.get("scores")), []
    )
    if scores:
        lines += ["", "| input | first BatchNorm | mean | |", "|---|---:|---:|---|"]
        lines += [f"| {prose(s['words'])} | {s['first']:,.3f} | {s['mean']:,.3f} | {_role(s)} |" for s in scores]
    lines += [f"\n{prose(remark)}" for remark in probe.remarks]
    return "\n".join(lines) + "\n"
