"""The same layers under other names or in another layout, found by shapes, order and the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import are, plural

RULE = Rule("renamed-layers", "The same layers under other names", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for the pairs that are sure, and one for those that are not."""
    if comparison.explained:  # of another network, equal shapes in equal order say nothing
        return
    pairs = comparison.alignment.pairs
    found = [pairs[name] for name in comparison.alignment.structural if leaf(name) not in DERIVED_BUFFERS]
    if sure := [pair for pair in found if pair.sure]:
        ops = Counter(op.name for pair in sure for op in pair.ops)
        changed = f" Some change their layout on the way ({', '.join(f'{n} × {op}' for op, n in ops.items())})." if ops else ""
        first = next((pair for pair in sure if pair.sources[0] != pair.target), sure[0])
        yield RULE.finding(
            f"{are(len(sure), 'tensor')} in the file under other names, such as `{first.sources[0]}` for `{first.target}`: "
            f"found by shapes, order and the module tree.{changed} Loaded by name {'it' if len(sure) == 1 else 'they'} would be missed.",
            checkpoint=(name for pair in sure for name in pair.sources),
            model=(pair.target for pair in sure),
            confidence=round(min(pair.confidence for pair in sure), 2),
            fix="rename them as the plan says",
            status="remappable",
            phrase="other names",
        )
    if undecided := [pair for pair in found if not pair.sure]:
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
