"""A plan at the terminal: what would be renamed and changed, what is dropped, what stays, and how sure all that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckptaudit.align.adapting import WAYS, way_of
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import fold_names, leaf, numbers_masked, parent
from ckptaudit.plan import Plan
from ckptaudit.prove.doubts import BY_RUNNING, BY_STATISTICS
from ckptaudit.report._proof import proof_lines
from ckptaudit.report._words import plural
from ckptaudit.report.terminal import _broken, _console, _page
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.plan import Step
    from ckptaudit.plan.rename_rules import RenameRule
    from ckptaudit.prove import Proof
    from ckptaudit.prove.doubts import Settled
    from ckptaudit.report import Options
    from ckptaudit.verdict import Verdict

_MAX_ROWS = 12
#: A tensor that is put together from more is shown with the first of them.
_MAX_SOURCES = 5
_GRADES = {
    "decided": "nothing else is possible",
    "ordered": "names and order agree among equals",
    "ambiguous": "not applied without asking",
}

_SETTLED = {BY_STATISTICS: "settled by BatchNorm statistics", BY_RUNNING: "settled by running both models"}


def render_plan(
    plan: Plan,
    options: Options,
    verdict: Verdict,
    offers: Sequence[Step] = (),
    proof: Proof | None = None,
    settled: Sequence[Settled] = (),
) -> str:
    """One page: what the plan reaches, its rules, its other steps folded, what stays and what is dropped, its grades.

    Parameters
    ----------
    verdict:
        What the audit says of the file as the plan restores it: a plan that sets every tensor is not yet one that serves.
    offers:
        Steps that were not asked for.
    proof:
        What came of putting the plan to the proof.
    settled:
        What was tried to settle what names and shapes leave open.
    """
    console, out = _console(options)
    sides = [printable(side.name) for side in (plan.source, plan.target) if side is not None and side.name]
    unsure = sum(not step.sure for step in plan.steps)
    against = proof is not None and proof.against
    fit, status = verdict.fit and not against, "refuted" if proof is not None and proof.status == "refuted" else verdict.status
    head = Text(f"{'✓' if fit else '✗'} {status}", style="bold green" if fit else "bold yellow")
    console.print(head.append(f"  {' → '.join(sides)}" if sides else "", style="default not bold"), soft_wrap=True)
    so_far = "By names and shapes alone: " if against else ""
    console.print(Padding(Text(so_far + printable(verdict.summary)), (0, 0, 0, 2)))
    renamed = sum(old != new for old, new in plan.renames.items())
    changed = [step for step in plan.steps if step.ops]
    # Numbers that lack their scale, say, are wrong under the right names, too.
    safe = "safe" if verdict.status != "incompatible" and not against else "sure as to names and shapes"
    words = [
        "complete" if plan.complete else "not complete",
        *([f"{plural(unsure, 'step')} not sure"] if unsure else [safe] if plan.steps else []),
    ]
    kept = "keeps its initial value" if len(plan.initial) == 1 else "keep their initial value"
    counts = (
        f"{', '.join(words)} · {plural(len(plan.steps), 'tensor')} set: {renamed} renamed, {len(changed)} changed, "
        f"{len(plan.steps) - renamed - len(changed)} as they are · {len(plan.initial)} {kept} · "
        f"{len(plan.dropped)} of the file dropped"
    )
    console.print(Padding(Text(counts), (0, 0, 0, 2)))
    if options.quiet:
        if proof is not None:
            console.print(Text(f"  {proof_lines(proof)[0]}"), soft_wrap=True)
        return _page(out)
    _print_rules(console, plan.rules, options)
    _print_changes(console, plan, options)
    needed = [name for name in plan.initial if leaf(name) not in DERIVED_BUFFERS]
    derived = [name for name in plan.initial if leaf(name) in DERIVED_BUFFERS]
    _print_names(console, "initial", "tensors of the model that nothing sets", needed, options)
    _print_names(console, "derived", "buffers that the model sets itself", derived, options)
    _print_names(console, "dropped", "tensors of the file that are not used", plan.dropped, options)
    if plan.steps:
        console.print()
        console.print(Text("grades", style="bold"))
        table = Table.grid(padding=(0, 2))
        grades = Counter((step.grade, _meaning(step)) for step in plan.steps)
        for grade, meaning in sorted(grades, key=lambda row: list(_GRADES).index(row[0])):
            table.add_row(f"  {grade}", str(grades[grade, meaning]), Text(meaning, style="dim"))
        console.print(table)
        _print_unsure(console, plan, {one.path for one in settled}, options)
    _print_settled(console, settled, options)
    _print_offers(console, offers)
    if proof is not None:
        console.print()
        console.print(Text("proof", style="bold"))
        for line in proof_lines(proof):
            text = line.lstrip()
            console.print(Padding(Text(text), (0, 0, 0, 2 + len(line) - len(text))))
    return _page(out)


def render_written(plan: Plan, path: str, command: str, options: Options) -> str:
    """What follows the page once the plan is written: where it is, what in it wants a look, and the command that carries it out."""
    console, out = _console(options)
    unsure = sum(not step.sure for step in plan.steps)
    look = f"; {plural(unsure, 'step')} in it {'is' if unsure == 1 else 'are'} ambiguous, to be looked at before" if unsure else ""
    console.print()
    console.print(Text("written  ", style="bold").append(f"{printable(path)}{look}", style="default not bold"), soft_wrap=True)
    if command:  # which refuses what nobody has decided
        console.print(Text("then     " if unsure else "next     ", style="bold").append(command, style="default not bold"), soft_wrap=True)
    return _page(out)


def _meaning(step: Step) -> str:
    """What a step's grade rests on, in words."""
    told = step.evidence[0] if step.evidence and step.sure else ""
    return next((meaning for start, meaning in _SETTLED.items() if told.startswith(start)), _GRADES[step.grade])


def _print_unsure(console: Console, plan: Plan, told: set[str], options: Options) -> None:
    """The ambiguous steps and why each is, those of equal reasons together, but for modules that are ``told`` of elsewhere."""
    reasons: dict[str, list[str]] = {}
    for step in plan.steps:
        if not step.sure and parent(step.target) not in told:
            reasons.setdefault("; ".join(step.evidence), []).append(step.target)
    shown = list(reasons.items()) if options.verbose else list(reasons.items())[:_MAX_ROWS]
    for reason, names in shown:
        patterns = fold_names(names)
        more = f" … {plural(len(patterns) - 1, 'pattern')} more" if len(patterns) > 1 and not options.verbose else ""
        for pattern in patterns if options.verbose else patterns[:1]:
            for line in _broken(printable(pattern + more), options.width - 4):
                console.print(Text(f"    {line}"), soft_wrap=True)
        console.print(Padding(Text(printable(reason or "no reason is given"), style="dim"), (0, 0, 0, 6)))
    _print_rest(console, len(reasons) - len(shown), "reason")


def _print_settled(console: Console, settled: Sequence[Settled], options: Options) -> None:
    """What stays open first: it is what somebody has to look at."""
    if not settled:
        return
    still_open = sum(not one.sure for one in settled)
    console.print()
    counts = f"{plural(len(settled) - still_open, 'layer')} by what each BatchNorm remembers; {still_open} open"
    console.print(Text("settled  ", style="bold").append(counts, style="default not bold"))
    console.print(Text("  divergence: 0 where a BatchNorm is given the mean and variance that it remembers", style="dim"), soft_wrap=True)
    order = sorted(settled, key=lambda one: one.sure)
    shown = order if options.verbose else order[:_MAX_ROWS]
    for one in shown:
        console.print(Text(f"  {printable(one.path)} ← {printable(one.source)}{'' if one.sure else '  (ambiguous)'}"), soft_wrap=True)
        console.print(Text(f"    {printable(one.why)}", style="dim"), soft_wrap=True)
    _print_rest(console, len(order) - len(shown), "layer")


def _print_offers(console: Console, offers: Sequence[Step]) -> None:
    if not offers:
        return
    console.print()
    console.print(Text("offered  ", style="bold").append("loses information or invents some; not done unasked", style="default not bold"))
    ways: dict[str, list[Step]] = {}
    for step in offers:
        ways.setdefault(next(way_of(op) for op in step.ops if way_of(op) in WAYS), []).append(step)
    for way, steps in ways.items():
        console.print(Text(f"  --adapt {way}  ", style="cyan").append(_folded([step.target for step in steps])), soft_wrap=True)
        console.print(Text(f"    {printable(steps[0].evidence[-1])}", style="dim"), soft_wrap=True)


def _print_rules(console: Console, rules: Sequence[RenameRule], options: Options) -> None:
    if not rules:
        return
    console.print()
    console.print(Text("renames  ", style="bold").append(plural(len(rules), "rule"), style="default not bold"))
    shown = rules if options.verbose else rules[:_MAX_ROWS]
    for rule in shown:
        new = printable(rule.replacement) or "(nothing)"
        console.print(Text(f"  {printable(rule.pattern)}  →  {new}"), soft_wrap=True)
    _print_rest(console, len(rules) - len(shown), "rule")


def _print_changes(console: Console, plan: Plan, options: Options) -> None:
    """Steps that no rule expresses; those with the same operations and the same names but for numbers are one line."""
    special = plan.special
    if not special:
        return
    console.print()
    console.print(Text("changes  ", style="bold").append(plural(len(special), "step"), style="default not bold"))
    groups: dict[tuple[object, ...], list[Step]] = {}
    for step in special:
        names: tuple[str, ...] = (step.target, *step.sources)
        masked = names if options.verbose else tuple(map(numbers_masked, names))
        groups.setdefault((step.ops if options.verbose else _spelled(step, numbers=False), masked, step.grade), []).append(step)
    shown = list(groups.values()) if options.verbose else list(groups.values())[:_MAX_ROWS]
    for group in shown:
        sources = [_folded([step.sources[i] for step in group]) for i in range(len(group[0].sources))]
        times = f"  ×{len(group)}" if len(group) > 1 else ""
        does = _spelled(group[0], numbers=len({step.ops for step in group}) == 1) or "once more"
        unsure = "" if group[0].sure else "  (ambiguous)"
        console.print(Text(f"  {_folded([step.target for step in group])}"), soft_wrap=True)
        if len(sources) > _MAX_SOURCES and not options.verbose:
            sources = [*sources[: _MAX_SOURCES - 1], f"{len(sources) - _MAX_SOURCES + 1} more"]
        console.print(Text("    ← ", style="dim").append(" + ".join(sources), style="not dim"), soft_wrap=True)
        console.print(Text(f"    {does}{times}{unsure}", style="cyan"), soft_wrap=True)
    _print_rest(console, len(groups) - len(shown), "more such line")


def _spelled(step: Step, *, numbers: bool) -> str:
    """The operations in words, with their parameters or (for several steps at once) without."""
    if not numbers:
        return ", ".join(op.name for op in step.ops)
    return ", ".join(
        " ".join([op.name, *(f"{name}={printable(str(value)).replace(' ', '')}" for name, value in op.params.items())]) for op in step.ops
    )


def _folded(names: Iterable[str]) -> str:
    return printable(" ".join(fold_names(names)))


def _print_names(console: Console, title: str, meaning: str, names: Sequence[str], options: Options) -> None:
    if not names:
        return
    console.print()
    console.print(Text(f"{title}  ", style="bold").append(f"{plural(len(names), 'tensor')}: {meaning}", style="default not bold"))
    patterns = list(names) if options.verbose else fold_names(names)
    shown = patterns if options.verbose else patterns[:_MAX_ROWS]
    for pattern in shown:
        for line in [printable(pattern)] if options.verbose else _broken(printable(pattern), options.width - 2):
            console.print(Text(f"  {line}"), soft_wrap=True)
    _print_rest(console, len(patterns) - len(shown), "pattern")


def _print_rest(console: Console, count: int, word: str) -> None:
    if count > 0:
        console.print(Text(f"  … {plural(count, word)} not shown; -v shows all", style="dim"))
