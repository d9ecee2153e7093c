"""Layers that Keras numbered in two sessions: ``conv2d_75`` in one is ``conv2d`` in the other, and equal names are a coincidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ckptaudit.align.keras_loading import automatic_names
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import leaf, parent
from ckptaudit.records import replace


def shift_of(stem: str, here: Mapping[str, tuple[str, int]], there: Mapping[str, tuple[str, int]]) -> int | None:
    """By how much the numbers of a class are higher in the model than in the file, where both begin; None where one side has none."""
    old = [number for word, number in here.values() if word == stem]
    new = [number for word, number in there.values() if word == stem]
    return min(new) - min(old) if old and new else None


def with_shifted_numbers(source: LayerGraph, target: LayerGraph, named: Alignment) -> Alignment:
    """The same alignment, but for layers of classes whose numbers begin elsewhere: these are paired with the numbers shifted.

    Sure where that pairs every tensor of the class, on the smaller side, with one of its shape. Where it does not, the pairs by name stay
    as they are, but none of them is sure.
    """
    if source.framework != "keras" or target.framework != "keras":
        return named
    here, there = automatic_names(source), automatic_names(target)
    shifts = {stem: shift for stem in dict.fromkeys(word for word, _ in there.values()) if (shift := shift_of(stem, here, there))}
    if not shifts:
        return named
    shifted: dict[str, str] = {}
    doubtful: set[str] = set()
    for stem, shift in shifts.items():
        found = dict(_shifted(source, target, here, there, stem, shift))
        smaller = min(sum(word == stem for word, _ in side.values()) for side in (here, there))
        fits = all(source.tensors[old].shape == target.tensors[new].shape for new, old in found.items())
        if fits and len({parent(new) for new in found}) == smaller:
            shifted |= found
        doubtful.update(name for name in target.tensors if there.get(parent(name), ("",))[0] == stem)
    pairs = {name: replace(pair, grade="ambiguous", confidence=0.5) if name in doubtful else pair for name, pair in named.pairs.items()}
    for name in [name for name, pair in pairs.items() if name in shifted or set(pair.sources) & set(shifted.values())]:
        del pairs[name]
    for new, old in shifted.items():
        shift = shifts[there[parent(new)][0]]
        evidence = f"numbered in another session: every number of its class is {abs(shift)} {'higher' if shift > 0 else 'lower'}"
        pairs[new] = Pair(new, (old,), (), "ordered", 0.95, (evidence, "every layer of the class has the shapes of its counterpart"))
    undoubted = {new: old for new, old in named.mismatched.items() if new not in doubtful}
    changed = replace(named, mismatched=MappingProxyType(undoubted), structural=tuple(name for name in target.tensors if name in shifted))
    return changed.with_pairs(pairs, source, target)


def _shifted(
    source: LayerGraph,
    target: LayerGraph,
    here: Mapping[str, tuple[str, int]],
    there: Mapping[str, tuple[str, int]],
    stem: str,
    shift: int,
) -> Iterator[tuple[str, str]]:
    """Name in the model and in the file of the tensors that correspond when the numbers are shifted."""
    held = {(parent(path), number): path for path, (word, number) in here.items() if word == stem}
    below: dict[str, dict[str, str]] = {}
    for name in source.tensors:
        below.setdefault(parent(name), {})[leaf(name).partition(":")[0]] = name
    for name in target.tensors:
        path = parent(name)
        word, number = there.get(path, ("", 0))
        if word != stem:
            continue
        old = below.get(held.get((parent(path), number - shift), ""), {}).get(leaf(name).partition(":")[0])
        if old is not None:
            yield name, old
