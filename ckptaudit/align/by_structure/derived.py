"""Buffers that follow from the configuration, and step counters: matched by name once the layers around them are known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from ckptaudit.align.by_structure.reading import Side
from ckptaudit.align.ops import ops_between
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import TensorSpec
from ckptaudit.graph.names import leaf, parent

__all__ = ["derived_pairs"]


def derived_pairs(source: Side, target: Side, pairs: Mapping[str, Pair]) -> Iterator[Pair]:
    """Pairs of buffers that were set apart, given the pairs of everything else."""
    free = {spec.name: spec for spec in source.derived}
    wanted = {parent(spec.name) for spec in target.derived}
    layers = {layer: pair for pair in pairs.values() if len(pair.sources) == 1 and (layer := parent(pair.target)) in wanted}
    left = []
    for spec in target.derived:
        beside = layers.get(parent(spec.name))
        if beside is None:
            left.append(spec)
            continue
        owner = beside.sources[0]
        name = (
            owner[: len(parent(owner))] + owner[len(parent(owner)) : len(parent(owner)) + 1] + leaf(spec.name)
            if parent(owner)
            else leaf(spec.name)
        )
        other = free.get(name)
        if other is None or other.numel != spec.numel:
            left.append(spec)
            continue
        del free[name]
        yield Pair(
            spec.name, (name,), ops_between(other.shape, (), spec.shape, ()), beside.grade, beside.confidence, ("same name in its layer",)
        )
    both = (
        Counter((leaf(spec.name), spec.numel) for spec in source.derived),
        Counter((leaf(spec.name), spec.numel) for spec in target.derived),
    )
    single = {key for key, count in both[0].items() if count == both[1][key] == 1}
    yield from _in_order(list(free.values()), left, single)


def _in_order(sources: list[TensorSpec], targets: list[TensorSpec], single: set[tuple[str, int]]) -> Iterator[Pair]:
    """Equally many buffers of one name and size, in order; sure are those of which each side never had more than a single one."""
    here: dict[tuple[str, int], list[TensorSpec]] = defaultdict(list)
    there: dict[tuple[str, int], list[TensorSpec]] = defaultdict(list)
    for found, specs in ((here, sources), (there, targets)):
        for spec in specs:
            found[leaf(spec.name), spec.numel].append(spec)
    for key, wanted in there.items():
        if len(here[key]) != len(wanted):
            continue
        for s, t in zip(here[key], wanted, strict=True):
            alone = key in single
            evidence = ("only buffer of this name",) if alone else ("same name", "order")
            yield Pair(
                t.name,
                (s.name,),
                ops_between(s.shape, (), t.shape, ()),
                "ordered" if alone else "ambiguous",
                0.9 if alone else 0.4,
                evidence,
            )
