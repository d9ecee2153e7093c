"""Step 2: one granularity. Where one side fuses what the other keeps apart (``qkv``), the fused tensor falls into parts.

Parts are *virtual* layers; :mod:`align.joining` puts them together again at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from ckptaudit.align.by_structure.reading import Item, Side
from ckptaudit.align.by_structure.words import FUSED, masked, tokens

__all__ = ["split_fused"]

#: How far the number of single tensors may be from what the fused ones need: some may be missing.
_FEWEST, _MOST = 0.5, 1.3


def split_fused(source: Side, target: Side) -> None:
    """Split fused projections, on either side, in place."""
    for of in (3, 2):
        _split_one_side(source, target, of)
        _split_one_side(target, source, of)


def _split_one_side(side: Side, other: Side, of: int) -> None:
    here, there = _matrices(side), _matrices(other)
    have = Counter({shape: len(found) for shape, found in here.items()})
    want = Counter({shape: len(found) for shape, found in there.items()})
    cuts: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for shape, found in here.items():
        fused = have[shape] - want[shape]
        part = tuple(n for n in (shape[0] // of, *shape[1:]) if n != 1)
        if fused <= 0 or shape[0] % of or not part:
            continue
        named = [item for item in found if len(_labels(item.owner)) == of]
        missing = want[part] - have[part]
        # Many of the parts may be lost together with the matrices beside them that have their shape.
        enough = _FEWEST * of * len(named) <= missing <= _MOST * of * len(named)
        if named and (enough or (not want[shape] and _said(there.get(part, ()), _labels(named[0].owner)))):
            cuts += [(item.owner, _labels(item.owner)) for item in named]
        elif missing == of * fused:
            same = _one_family(found, fused)
            cuts += [(item.owner, tuple(map(str, range(of)))) for item in same]
    for owner, labels in cuts:
        _cut_layer(side, owner, labels)


def _said(parts: Sequence[Item], labels: tuple[str, ...]) -> bool:
    """Whether the names of the other side's matrices say that they are these parts, each as often as the others."""
    words = Counter(word for item in parts if item.owner for word in frozenset(tokens(item.owner[-1])))
    counts = {words[tokens(label)[0]] for label in labels}
    return len(counts) == 1 and 0 not in counts


def _matrices(side: Side) -> dict[tuple[int, ...], list[Item]]:
    found: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for items in side.layers.values():
        for item in items:
            if item.module_weight and len(item.shape) > 1:
                found[item.shape].append(item)
    return found


def _labels(owner: tuple[str, ...]) -> tuple[str, ...]:
    return FUSED.get(owner[-1].lower(), ()) if owner else ()


def _one_family(found: list[Item], count: int) -> list[Item]:
    """The fused tensors among ``found``: all of them, or those of the one name template that has ``count``."""
    if len(found) == count:
        return found
    families: dict[str, list[Item]] = defaultdict(list)
    for item in found:
        families[masked(".".join(item.owner))].append(item)
    fitting = [family for family in families.values() if len(family) == count]
    return fitting[0] if len(fitting) == 1 else []


def _cut_layer(side: Side, owner: tuple[str, ...], labels: tuple[str, ...]) -> None:
    items = side.layers[owner]
    named = not labels[0].isdecimal()
    # attn.qkv → attn.q: what the part is called elsewhere, and where a lone q_bias already stands.
    paths = [(*owner[:-1], label) if named else (*owner, label) for label in labels]
    lone = dict(zip(paths, paths, strict=True)) if named else _lone_biases(side, owner, paths)
    parts = {
        path: [
            *(item.take(part, len(labels), path) for item in items if _divisible(item, len(labels))),
            *(bias for bias in side.layers.get(lone.get(path, ()), ()) if _is_bias(side, bias) and lone[path] != owner),
        ]
        for part, path in enumerate(paths)
    }
    rebuilt: dict[tuple[str, ...], list[Item]] = {}
    for path, old in side.layers.items():
        if path == owner:
            rebuilt.update(parts)
        elif path not in lone.values() or not all(_is_bias(side, item) for item in old):
            rebuilt[path] = old
    side.layers = rebuilt


def _lone_biases(side: Side, owner: tuple[str, ...], paths: list[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Lone biases beside a fused matrix whose words say nothing, by the part that each belongs to.

    Where there is one too few it is the key's: that one has no effect, and libraries leave it out.
    """
    rows = side.layers[owner][0].shape[0] // len(paths)
    beside = [
        path
        for path, items in side.layers.items()
        if path[:-1] == owner[:-1] and len(items) == 1 and _is_bias(side, items[0]) and items[0].shape == (rows,)
    ]
    taking = paths if len(beside) == len(paths) else [paths[0], paths[-1]]
    return dict(zip(taking, beside, strict=True)) if len(beside) == len(taking) else {}


def _is_bias(side: Side, item: Item) -> bool:
    return item.role == "bias" or (side.plain and len(item.shape) == 1)


def _divisible(item: Item, of: int) -> bool:
    return bool(item.shape) and item.shape[0] % of == 0
