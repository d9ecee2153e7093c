"""Arrays of numpy in a torch file: names and shapes fit, and torch refuses to copy them."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("numpy-arrays", "Arrays of numpy instead of tensors", "error", "file")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all arrays that the model would be given."""
    if comparison.model.graph.framework != "torch":
        return
    held = comparison.checkpoint.branch.tensors
    arrays = {
        name: source
        for name, pair in comparison.alignment.pairs.items()
        for source in pair.sources
        if source in held and held[source].is_array
    }
    if arrays:
        given = len({source for pair in comparison.alignment.pairs.values() for source in pair.sources})
        found = len(set(arrays.values()))
        yield RULE.finding(
            f"{found:,} of {plural(given, 'tensor')} for the model {'is an array' if found == 1 else 'are arrays'} of numpy: "
            f"load_state_dict refuses {'it' if found == 1 else 'them'}, "
            "also with strict=False.",
            checkpoint=arrays.values(),
            model=arrays,
            fix="restore with ckptaudit.load, or call torch.from_numpy on each first",
            status="remappable",
            phrase="arrays of numpy instead of tensors",
        )
