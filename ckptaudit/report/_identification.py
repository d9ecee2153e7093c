"""What a file may be: for a terminal, or as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from ckptaudit.read.checkpoint import CHOSEN_BY_HAND
from ckptaudit.report.json import dump
from ckptaudit.report.terminal import _console, _page
from ckptaudit.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptaudit.identification import Candidate, Identification
    from ckptaudit.read import Checkpoint
    from ckptaudit.report import Options

_MARKS = {"sure": ("✓", "bold green"), "likely": ("≈", "bold yellow"), "unknown": ("?", "bold red")}
_MAX_CANDIDATES, _MAX_EQUIVALENTS = 3, 6


def render_identification(
    checkpoint: Checkpoint, found: Identification, output_format: str, options: Options, comparable: Callable[[Candidate], bool]
) -> str:
    """The candidates with their evidence, and the command that holds the file against the first; or JSON, ``ckptaudit.identify/1``.

    The command is given where ``comparable`` says of the first that it would show something.
    """
    if output_format == "json":
        return dump(found.to_json())
    console, out = _console(options)
    shown = found.candidates if options.verbose else found.candidates[:_MAX_CANDIDATES]
    first = found.candidates[0] if found.candidates and found.certainty != "unknown" else None
    mark, style = _MARKS[found.certainty]
    arrow = f" → {first.arch}" if first else ""
    head = Text(f"{mark} {found.certainty}", style=style)
    console.print(head.append(f"  {printable(checkpoint.path.name)}{arrow}", style="default not bold"), soft_wrap=True)
    console.print(Padding(Text(_answer(checkpoint, found, first)), (0, 0, 0, 2)))
    if options.quiet:
        return _page(out)
    for candidate in shown:
        console.print()
        given = ", ".join(f"{key}={value}" for key, value in candidate.arguments.items())
        name = Text(candidate.arch).append(f"  {given}" if given else "", style="dim")
        console.print(Text(f"{candidate.score:.2f}  ", style="bold").append(name), soft_wrap=True)
        for line in _details(candidate, options):
            console.print(Padding(Text(printable(line)), (0, 0, 0, 6)))
    if first and comparable(first):
        console.print()
        console.print(Text("next  ", style="bold").append(_next(checkpoint, first)), soft_wrap=True)
    return _page(out)


def _answer(checkpoint: Checkpoint, found: Identification, first: Candidate | None) -> str:
    if first is not None:
        return first.call
    if found.candidates:
        return f"No architecture of the catalogue fits; the nearest is {found.candidates[0].arch}."
    if checkpoint.graph.tensors:
        return "No architecture of the catalogue fits, and none comes near."
    return "The file holds no tensors that say anything of an architecture."


def _details(candidate: Candidate, options: Options) -> list[str]:
    names = candidate.equivalents if options.verbose else candidate.equivalents[:_MAX_EQUIVALENTS]
    more = len(candidate.equivalents) - len(names)
    same = f"the same tensors: {', '.join(names)}" + (f" and {more} more" if more else "")
    return [*([same] if names else []), *candidate.evidence]


def _next(checkpoint: Checkpoint, candidate: Candidate) -> str:
    given = "".join(f" --arch-arg {key}={str(value).lower()}" for key, value in candidate.arguments.items())
    branch = f" --branch {shlex.quote(printable(checkpoint.branch.name))}" if checkpoint.branch_reason == CHOSEN_BY_HAND else ""
    return f"ckptaudit diff {shlex.quote(printable(str(checkpoint.path)))} --arch {candidate.arch}{given}{branch}"
