"""Tensors whose shapes differ in a known way: what could be done about it, each way for the asking.

Every one of these ways invents information or loses some, so that none is ever taken unasked: a plan with it is another model than the
one that was trained. What corresponds is certain (it has the same name); whether it is wanted only the user knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isqrt

from ckptaudit.align.branches import merged_branches
from ckptaudit.align.lost_norms import norm_behind
from ckptaudit.align.ops import Fuse, Inflate, Interpolate, Merge, Op, Permute, Rows
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.errors import PlanError
from ckptaudit.graph import LayerGraph, Module
from ckptaudit.graph.facts import stem_layer
from ckptaudit.graph.heads import is_auxiliary, main_head, output_axis
from ckptaudit.graph.names import is_under, leaf, parent

__all__ = ["WAYS", "adaptations", "adapted", "rows_of_classes", "way_of"]

#: What may be asked for; ``rows`` comes with a class map.
WAYS = ("inflate", "interpolate", "fuse")

_POSITIONS = frozenset({"pos_embed", "pos_embedding", "position_embedding", "position_embeddings", "positional_embedding"})
_RELATIVE = frozenset({"relative_position_bias_table"})
_CLASS_TOKENS = frozenset({"cls_token", "class_token", "class_embedding", "cls_embedding", "dist_token", "distillation_token"})
#: BEiT's tables end with three entries for the class token: to it, from it, with itself.
_RELATIVE_SUFFIXES = (0, 3)
#: A step that somebody asked for is as sure as the names that it goes by.
_CONFIDENCE = 0.95


def adaptations(
    alignment: Alignment,
    source: LayerGraph,
    target: LayerGraph,
    *,
    class_map: object = None,
    settings: Mapping[str, Module] | None = None,
) -> dict[str, Pair]:
    """What could be done about shapes that differ, by target.

    Parameters
    ----------
    class_map:
        See :func:`rows_of_classes`.
    settings:
        Modules of the model that wrote the file, where it is known: folding a BatchNorm needs its eps.
    """
    found = [
        *(_rows(alignment, source, target, rows_of_classes(class_map)) if class_map is not None else ()),
        *_inflated(alignment, source, target),
        *_interpolated(alignment, source, target),
        *_fused(alignment, source, target, settings or source.modules),
        *_merged(alignment, source, target, settings or source.modules),
    ]
    return {pair.target: pair for pair in found}


def adapted(
    alignment: Alignment, source: LayerGraph, target: LayerGraph, offered: Mapping[str, Pair], ways: Collection[str]
) -> tuple[Alignment, tuple[Pair, ...]]:
    """The alignment with those adaptations that were asked for, and the others; rows are asked for by giving a class map.

    Raises
    ------
    ValueError
        There is no such way.
    """
    if unknown := [way for way in ways if way not in WAYS]:
        raise ValueError(f"adapt: {unknown[0]!r} is none of {', '.join(WAYS)}")
    taken = {name: pair for name, pair in offered.items() if any(way_of(op) in ways or isinstance(op, Rows) for op in pair.ops)}
    others = tuple(pair for name, pair in offered.items() if name not in taken)
    if not taken:
        return alignment, others
    consumed = {source for pair in taken.values() for source in pair.sources}
    # What is folded into one tensor is not another tensor as well.
    pairs = {name: pair for name, pair in alignment.pairs.items() if name in taken or consumed.isdisjoint(pair.sources)} | taken
    return alignment.with_pairs(pairs, source, target), others


def rows_of_classes(value: object) -> tuple[int, ...]:
    """The class of the file for each class of the model.

    Parameters
    ----------
    value:
        A list with the number of the file's class for each class of the model, -1 for none; or ``{"file": names, "model": names}``, the
        names of both sides' classes in order.

    Raises
    ------
    PlanError
        It is neither.
    """
    if isinstance(value, Mapping) and value.keys() == {"file", "model"}:
        file, model = value["file"], value["model"]
        if all(isinstance(names, list) and names and all(type(name) is str for name in names) for names in (file, model)):
            if len(set(file)) != len(file):
                raise PlanError("class map: a name of the file's classes is there twice")
            return tuple(file.index(name) if name in file else -1 for name in model)
    if isinstance(value, list | tuple) and value and all(type(row) is int and row >= -1 for row in value):
        return tuple(value)
    raise PlanError("class map: a list of class numbers (-1 for none), or {file: [names], model: [names]}")


def _pair(target: str, sources: Sequence[str], ops: Sequence[Op], evidence: str) -> Pair:
    return Pair(target, tuple(sources), tuple(ops), "decided", _CONFIDENCE, ("same name", evidence))


def _rows(alignment: Alignment, source: LayerGraph, target: LayerGraph, classes: Sequence[int]) -> Iterator[Pair]:
    head = main_head(target)
    fitting = 0
    for name, other in alignment.mismatched.items():
        layer = target.by_path[parent(name)]
        if "weight" not in layer.tensors or not (is_auxiliary(name) or (head is not None and is_under(name, head.path))):
            continue
        old, new = source.tensors[other].shape, target.tensors[name].shape
        axis = output_axis(layer, target.framework) if len(new) > 1 else 0
        if _only_differs(old, new, axis) and new[axis] == len(classes) and old[axis] > max(classes):
            fitting += 1
            yield _pair(name, (other,), _along_first(Rows(tuple(classes)), axis, len(new)), "rows by the class map")
    if not fitting:
        raise PlanError(
            f"class map: no output layer has {len(classes)} classes in the model and more than {max(classes)} in the file under one name"
        )


def _inflated(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Iterator[Pair]:
    stem = stem_layer(target)
    for name, other in alignment.mismatched.items():
        old, new = source.tensors[other].shape, target.tensors[name].shape
        if parent(name) != stem or len(new) < 3 or source.framework != target.framework:
            continue
        last = target.framework in ("keras", "tensorflow")
        axis = len(new) - 2 if last else 1
        if not _only_differs(old, new, axis) or min(*old, *new) < 1:
            continue
        op = Inflate(new[axis], "sum" if new[axis] == 1 else "repeat")
        rank = len(new)
        there = (rank - 1, rank - 2, *range(rank - 2))  # (…, in, out) → (out, in, …)
        ops = (Permute(there), op, Permute((*range(2, rank), 1, 0))) if last else (op,)
        yield _pair(name, (other,), ops, f"input channels {old[axis]} → {new[axis]}")


def _interpolated(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Iterator[Pair]:
    for name, other in alignment.mismatched.items():
        old, new = source.tensors[other].shape, target.tensors[name].shape
        if len(old) != len(new) or not 2 <= len(new) <= 3 or not _only_differs(old, new, len(new) - 2):
            continue
        word = leaf(parent(name)) if leaf(name) == "weight" else leaf(name)
        grids = []
        if word in _RELATIVE:
            # (2h - 1)·(2w - 1) offsets of a window: an odd square
            grids = [g for g in _grids(old[-2], new[-2], ((0, suffix) for suffix in _RELATIVE_SUFFIXES)) if g.old[0] % 2 and g.new[0] % 2]
        elif word in _POSITIONS and _embeds_patches(target, new[-1]):
            # Text has positions, too, and their number may be a square; patches come from a convolution of the table's width.
            tokens = sum(leaf(other_name) in _CLASS_TOKENS for other_name in target.tensors)
            grids = list(_grids(old[-2], new[-2], ((prefix, 0) for prefix in dict.fromkeys((tokens, 0)))))
        if len(grids) == 1:
            yield _pair(name, (other,), (grids[0],), f"grid {grids[0].old[0]}×{grids[0].old[1]} → {grids[0].new[0]}×{grids[0].new[1]}")


def _grids(old: int, new: int, others: Iterator[tuple[int, int]]) -> Iterator[Interpolate]:
    """Square grids that both numbers of positions allow, with so many other entries before and behind."""
    for prefix, suffix in others:
        sides = [isqrt(max(count - prefix - suffix, 0)) for count in (old, new)]
        if all(side > 1 and side * side == count - prefix - suffix for side, count in zip(sides, (old, new), strict=True)):
            yield Interpolate((sides[0],) * 2, (sides[1],) * 2, prefix, suffix)


def _embeds_patches(graph: LayerGraph, width: int) -> bool:
    stem = stem_layer(graph)
    weight = graph.by_path[stem].tensors["weight"] if stem is not None else None
    return weight is not None and len(weight.shape) == 4 and weight.shape[0] == width and weight.shape[2] > 1


def _fused(alignment: Alignment, source: LayerGraph, target: LayerGraph, settings: Mapping[str, Module]) -> Iterator[Pair]:
    """Fold each BatchNorm of the file into the convolution before it, where the model has a bias in its place."""
    if any(layer.kind == "batch_norm" for layer in target.layers) or not source.framework == target.framework == "torch":
        return
    if not any(layer.kind == "batch_norm" for layer in source.layers):
        return
    for layer in target.layers:
        weight, bias = layer.tensors.get("weight"), layer.tensors.get("bias")
        pair = alignment.pairs.get(weight.name) if weight is not None else None
        if weight is None or bias is None or pair is None or pair.ops or not pair.sure or len(weight.shape) < 2:
            continue
        norm = norm_behind(source, pair.sources[0], weight.shape[0])
        eps = _eps(norm.path, settings) if norm is not None else None
        if norm is None or eps is None:
            continue
        conv = source.by_path[parent(pair.sources[0])]
        gamma, beta, mean, variance = (norm.tensors[role].name for role in ("weight", "bias", "running_mean", "running_var"))
        own_bias = [conv.tensors["bias"].name] if "bias" in conv.tensors else []
        folded = f"BatchNorm folded, eps {eps:g}"
        yield _pair(weight.name, (pair.sources[0], gamma, variance), (Fuse("weight", eps),), folded)
        yield _pair(bias.name, (beta, gamma, mean, variance, *own_bias), (Fuse("bias", eps),), folded)


def _merged(alignment: Alignment, source: LayerGraph, target: LayerGraph, settings: Mapping[str, Module]) -> Iterator[Pair]:
    """Add up the branches of the file that the model has as one convolution."""
    for merged in merged_branches(source, target, tuple(alignment.wrappers)):
        eps = {_eps(branch.norm.path, settings) for branch in merged.branches}
        only = eps.pop()
        if eps or only is None:
            continue
        kinds = "+".join(branch.kind for branch in merged.branches)
        told = f"{len(merged.branches)} branches added up, BatchNorm folded, eps {only:g}"
        weight, bias = merged.layer.tensors["weight"].name, merged.layer.tensors["bias"].name
        yield _pair(weight, [name for branch in merged.branches for name in branch.scales], (Merge("weight", kinds, only),), told)
        yield _pair(bias, [name for branch in merged.branches for name in branch.shifts], (Merge("bias", kinds, only),), told)


def way_of(op: Op) -> str:
    """What is to be asked for so that an operation is done."""
    return "fuse" if isinstance(op, Merge) else op.name


def _eps(path: str, settings: Mapping[str, Module]) -> float | None:
    """The eps of a BatchNorm of the file, which may lie under wrapper segments."""
    while path not in settings:
        _, dot, path = path.partition(".")
        if not dot:
            return None
    value = settings[path].attributes.get("eps")
    return float(value) if isinstance(value, int | float) else None


def _only_differs(old: Sequence[int], new: Sequence[int], axis: int) -> bool:
    return len(old) == len(new) and [i for i in range(len(new)) if old[i] != new[i]] == [axis]


def _along_first(op: Op, axis: int, rank: int) -> tuple[Op, ...]:
    """The operation on dimension 0, done along ``axis``."""
    if axis == 0:
        return (op,)
    swap = list(range(rank))
    swap[0], swap[axis] = axis, 0
    return (Permute(tuple(swap)), op, Permute(tuple(swap)))
