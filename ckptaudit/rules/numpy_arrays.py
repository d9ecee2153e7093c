"""Arrays of numpy in a torch file: names and shapes fit, and torch refuses to copy them."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

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
        yield RULE.finding(
            f"{len(set(arrays.values())):,} of {given:,} tensors for the model are arrays of numpy: load_state_dict refuses them, "
            "also with strict=False.",
            checkpoint=arrays.values(),
            model=arrays,
            fix="restore with ckptaudit.load, or call torch.from_numpy on each first",
            status="remappable",
            phrase="arrays of numpy instead of tensors",
        )
