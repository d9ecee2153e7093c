"""Names of the model that share one memory, where the file holds that once and under another name: safetensors keeps one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ckptaudit.align.pairs import Alignment
from ckptaudit.graph import LayerGraph
from ckptaudit.records import replace

__all__ = ["aliases", "with_aliases"]


def aliases(source: LayerGraph, target: LayerGraph, named: Alignment) -> Mapping[str, str]:
    """Names of the model that nothing is left for, each with the one that shares its memory and stands for it.

    Only where names are sure of none of them, and the file has fewer tensors of that size left over than the model: a file that holds each
    of them is aligned one by one.
    """
    sure = {name: pair.sources for name, pair in named.pairs.items() if pair.sure}
    used = {old for sources in sure.values() for old in sources}
    here = Counter(_size(source, name) for name in source.tensors if name not in used)
    there = Counter(_size(target, name) for name in target.tensors if name not in sure)
    found: dict[str, str] = {}
    for first, *others in target.tied:
        if sure.keys().isdisjoint((first, *others)):
            size = _size(target, first)
            for alias in others[: max(0, there[size] - here[size])]:
                found[alias] = first
                there[size] -= 1
    return found


def with_aliases(alignment: Alignment, found: Mapping[str, str], source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment of a model without its aliases, with a pair for each whose memory is set; the others are unmatched."""
    pairs = dict(alignment.pairs)
    for alias, name in found.items():
        if (known := alignment.pairs.get(name)) is not None:
            pairs[alias] = replace(known, target=alias, evidence=(*known.evidence, f"shares its memory with {name}"))
    structural = {*alignment.structural, *found} & pairs.keys()
    whole = alignment.with_pairs(pairs, source, target)
    return replace(whole, structural=tuple(name for name in target.tensors if name in structural))


def _size(graph: LayerGraph, name: str) -> tuple[int, ...]:
    """A shape in any order of its axes: between libraries a matrix may be transposed."""
    return tuple(sorted(graph.tensors[name].shape))
