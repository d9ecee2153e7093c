"""The same layers under other names or in another layout, found by shapes, order and the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckptaudit.align import Pair, Scope
from ckptaudit.align.lost_parts import loses_part
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import is_under, leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are, plural, quoted

RULE = Rule("renamed-layers", "The same layers under other names", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for the pairs that are sure, and one for those that are not."""
    if comparison.explained:  # of another network, equal shapes in equal order say nothing
        return
    if comparison.restored_by_position:
        yield from _in_order(comparison)
        return
    pairs = comparison.alignment.pairs
    for scope in comparison.renamed_modules:
        yield _module(scope, comparison)
    told = {*DERIVED_BUFFERS, *comparison.numbered_otherwise}
    found = [pairs[name] for name in comparison.alignment.structural if not {name, leaf(name)} & told]
    in_place = [pair for pair in found if pair.sure and pair.sources == (pair.target,)]
    if in_place:
        yield RULE.finding(
            f"{are(len(in_place), 'tensor')} stored in another layout under the same name, "
            f"such as `{in_place[0].target}`: {_listed(in_place)}. load_state_dict refuses their shapes.",
            checkpoint=(pair.target for pair in in_place),
            model=(pair.target for pair in in_place),
            confidence=round(min(pair.confidence for pair in in_place), 2),
            fix="change them as the plan says",
            status="remappable",
            phrase="another layout",
        )
    if sure := [pair for pair in found if pair.sure and pair.sources != (pair.target,)]:
        changed = f" Some change their layout on the way ({_listed(sure)})." if any(pair.ops for pair in sure) else ""
        first = sure[0]
        how = "shapes, order and the module tree" if comparison.topology is None else "what both compute, layer by layer"
        yield RULE.finding(
            f"{are(len(sure), 'tensor')} in the file under other names, such as `{first.sources[0]}` for `{first.target}`: "
            f"found by {how}.{changed} Loaded by name {'it' if len(sure) == 1 else 'they'} would be missed.",
            checkpoint=(name for pair in sure for name in pair.sources),
            model=(pair.target for pair in sure),
            confidence=round(min(pair.confidence for pair in sure), 2),
            fix="rename them as the plan says",
            status="remappable",
            phrase="" if comparison.renamed_modules else "other names",
        )
    # Counters of batches among them: as many as the plan has steps that are not sure.
    every = (pairs[name] for name in comparison.alignment.structural if name not in comparison.numbered_otherwise)
    if undecided := [pair for pair in every if not pair.sure and not loses_part(pair)]:
        rival = next((pair for pair in undecided if pair.runner_up), undecided[0])
        other = f", or `{rival.runner_up[0]}`" if rival.runner_up else ""
        yield RULE.finding(
            f"For {plural(len(undecided), 'tensor')} names and shapes do not decide which one is meant: "
            f"`{rival.target}` is probably `{rival.sources[0]}`{other}.",
            checkpoint=(name for pair in undecided for name in pair.sources),
            model=(pair.target for pair in undecided),
            severity="error",
            confidence=0.5,
            fix="look at the plan's ambiguous steps and decide, or audit with the code that wrote the file",
            status="partial",
            phrase=f"{plural(len(undecided), 'tensor')} undecided",
        )


def _module(scope: Scope, comparison: Comparison) -> Finding:
    inside = _inside(scope, comparison)
    sure = not scope.rivals and all(pair.sure for pair in inside)
    rivals = f" {quoted(scope.rivals)} would fit equally well: which one is meant is undecided." if scope.rivals else ""
    return RULE.finding(
        f"`{scope.source}` of the file is {'' if sure else 'probably '}`{scope.target}` of the model under another name "
        f"({plural(len(inside), 'tensor')} fit).{rivals} Loaded by name they would be missed.",
        checkpoint=(name for pair in inside for name in pair.sources),
        model=(pair.target for pair in inside),
        severity="warning" if sure else "error",
        confidence=0.97 if sure else 0.5,
        fix="rename them as the plan says" if sure else "look at the plan's ambiguous steps and decide",
        status="remappable" if sure else "partial",
        phrase=f"other names (`{scope.source}` for `{scope.target}`)" if sure else f"`{scope.target}` undecided",
    )


def _inside(scope: Scope, comparison: Comparison) -> list[Pair]:
    return [pair for name, pair in comparison.alignment.pairs.items() if is_under(name, scope.target) and pair.sources != (name,)]


def _in_order(comparison: Comparison) -> Iterator[Finding]:
    told = set(comparison.numbered_otherwise)
    pairs = [comparison.alignment.pairs[name] for name in comparison.alignment.structural if name not in told]
    pairs += [pair for scope in comparison.renamed_modules for pair in _inside(scope, comparison)]
    if pairs:
        yield RULE.finding(
            f"{are(len(pairs), 'tensor')} in the file under other names, such as `{pairs[0].sources[0]}` for `{pairs[0].target}`, "
            "in the same order and with the same shapes: Keras restores by position.",
            checkpoint=(name for pair in pairs for name in pair.sources),
            model=(pair.target for pair in pairs),
            severity="note",
            confidence=round(min(pair.confidence for pair in pairs), 2),
            fix="none needed",
            status="compatible",
            phrase="other names in the same order",
        )


def _listed(pairs: list[Pair]) -> str:
    ops = Counter(op.name for pair in pairs for op in pair.ops)
    return ", ".join(f"{number} × {op}" for op, number in ops.items())
