"""The same network with another number of repeated blocks.

Dropping blocks, or leaving new ones at their initial values, changes what the network computes however well the others fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("block-count", "Another number of blocks", "error", "cause")

#: Series of blocks by prefix: number of the block → what it holds, as names relative to the block.
Series = dict[str, dict[int, frozenset[str]]]


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per series of blocks that one side continues with blocks like those that both have."""
    if comparison.explained:
        return
    pairs = comparison.alignment.pairs
    used = {source for pair in pairs.values() for source in pair.sources}
    for extra, present, in_file in ((comparison.unexpected, used, True), (comparison.missing, set(pairs), False)):
        for prefix, more, common in _continued(extra, present):
            names = tuple(name for name in extra if any(name.startswith(f"{prefix}.{number}.") for number in more))
            file_blocks, model_blocks = (common + len(more), common) if in_file else (common, common + len(more))
            yield RULE.finding(
                f"`{prefix}` has {plural(file_blocks, 'block')} in the file and {model_blocks} in the model: "
                + ("the surplus would be dropped." if in_file else "the others would keep their initial values."),
                checkpoint=names if in_file else (),
                model=() if in_file else names,
                fix=f"build the model with {plural(file_blocks, 'block')} in `{prefix}`",
                status="incompatible",
                phrase=f"{file_blocks} {prefix} in the file, {model_blocks} in the model",
            )


def _continued(extra: Iterable[str], present: Iterable[str]) -> Iterator[tuple[str, set[int], int]]:
    """Prefixes whose numbered blocks are all there for some numbers and all extra for others, with equal contents.

    Yields the prefix, the extra numbers, and how many blocks both sides share; outermost series only.
    """
    beyond = _series(extra)
    if not beyond:
        return
    there = _series(present)
    found: list[str] = []
    for prefix, blocks in sorted(beyond.items(), key=lambda item: len(item[0])):
        shared = there.get(prefix, {})
        more = {number for number, names in blocks.items() if number not in shared and names in shared.values()}
        if more and not any(prefix.startswith(outer + ".") for outer in found):
            found.append(prefix)
            yield prefix, more, len(shared)


def _series(names: Iterable[str]) -> Series:
    blocks: dict[str, dict[int, set[str]]] = {}
    for name in names:
        segments = name.split(".")
        for position, segment in enumerate(segments[1:-1], 1):
            if segment.isdecimal():
                prefix = ".".join(segments[:position])
                blocks.setdefault(prefix, {}).setdefault(int(segment), set()).add(".".join(segments[position + 1 :]))
    return {prefix: {number: frozenset(held) for number, held in numbered.items()} for prefix, numbered in blocks.items()}
