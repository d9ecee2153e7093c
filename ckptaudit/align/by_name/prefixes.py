"""Find the prefix under which one graph is a part of the other: a backbone inside a detector, a model inside a trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from ckptaudit.align.pairs import Scope
from ckptaudit.graph.names import parent

#: A prefix is believed only when this many names fit under it …
MIN_TENSORS = 2
#: … and this share of them with equal shapes: names such as ``conv1.weight`` coincide anywhere.
MIN_EQUAL_SHAPES = 0.7
#: … in so many layers, for every layer has a ``weight`` and a ``bias``.
MIN_LAYERS = 2
#: How many prefixes are tried in full, the ones with the most votes first.
_CANDIDATES = 12
#: So many names have a vote, evenly drawn where there are more.
_VOTERS = 5000
#: Segments of the longest prefix that is considered.
_MAX_PREFIX = 16

Shapes = Mapping[str, tuple[int, ...]]


def find_scope(source: Shapes, target: Shapes) -> Scope | None:
    """Return the exchange of one prefix that brings the most names of ``source`` onto names of ``target``.

    Each target name votes for the prefixes that remain when the longest common run of trailing segments is cut from both
    sides; the prefixes with the most votes are then tried in full. ``None`` when nothing fits well enough. Prefixes of
    either side that fit equally well are returned as ``rivals`` (two encoders, an EMA copy): then the choice is not sure.
    """
    votes = Counter(_votes(source, target))
    scored = []
    for (old, new), _ in votes.most_common(_CANDIDATES):
        named, equal, layers = _fit(source, target, old, new)
        if equal >= MIN_TENSORS and equal >= MIN_EQUAL_SHAPES * named and layers >= MIN_LAYERS:
            scored.append((equal, -len(old) - len(new), old, new))
    if not scored:
        return None
    # Most tensors win; among equals the shortest prefixes, since they move the largest whole.
    scored.sort(key=lambda row: (-row[0], -row[1], row[2], row[3]))
    equal, _, old, new = scored[0]
    equals = [(other_old, other_new) for score, _, other_old, other_new in scored[1:] if score == equal]
    in_file = (a for a, b in equals if b == new and a != old and not _nested(a, old))
    in_model = (b for a, b in equals if a == old and b != new and not _nested(b, new))
    return Scope(old, new, equal, (*in_file, *in_model))


def exchange(name: str, old: str, new: str) -> str | None:
    """``name`` with the leading segments ``old`` replaced by ``new``; ``None`` when it does not lie under ``old``."""
    if old:
        if not name.startswith(old + "."):
            return None
        name = name[len(old) + 1 :]
    return f"{new}.{name}" if new else name


def _votes(source: Shapes, target: Shapes) -> Iterator[tuple[str, str]]:
    step = len(target) // _VOTERS + 1
    voters = list(islice(target.items(), 0, None, step))
    by_suffix: dict[str, dict[tuple[int, ...], list[str]]] = {suffix: {} for name, _ in voters for _, suffix in _cuts(name)}
    for name, shape in source.items():
        for prefix, suffix in _cuts(name):
            if suffix in by_suffix:
                found = by_suffix[suffix].setdefault(shape, [])
                if len(found) <= _CANDIDATES:
                    found.append(prefix)
    for name, shape in voters:
        for prefix, suffix in _cuts(name):
            found = by_suffix[suffix].get(shape, [])
            if found:
                # A suffix that occurs everywhere ("0.weight") says nothing about where the part lies.
                if len(found) <= _CANDIDATES:
                    for old in found:
                        yield old, prefix
                break


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Every split of ``name`` into leading and trailing segments, the longest trailing part first."""
    yield "", name
    position = -1
    for _ in range(_MAX_PREFIX):
        position = name.find(".", position + 1)
        if position < 0:
            return
        yield name[:position], name[position + 1 :]


def _fit(source: Shapes, target: Shapes, old: str, new: str) -> tuple[int, int, int]:
    """How many names fit, how many of these with equal shapes, and in how many layers."""
    named = equal = 0
    layers = set()
    for name, shape in source.items():
        moved = exchange(name, old, new)
        if moved is not None and moved in target:
            named += 1
            if target[moved] == shape:
                equal += 1
                layers.add(parent(moved))
    return named, equal, len(layers)


def _nested(a: str, b: str) -> bool:
    return a.startswith(b + ".") or b.startswith(a + ".") or not a or not b
