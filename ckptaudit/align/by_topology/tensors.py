"""From a pair of layers to pairs of tensors: layouts, and what becomes of a BatchNorm that only one side has."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.by_topology.units import Unit
from ckptaudit.align.ops import Fill, Op, Permute, Reshape
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.computation import BATCH_NORM, Operation, Use

#: What torch takes where nothing else is said.
_EPS = 1e-5
_FOLDED = "the file has its BatchNorm worked into this layer; the model's becomes one that changes nothing"
_STATISTICS = ("running_mean", "running_var")


def tensor_pairs(old: Unit, new: Unit, source: LayerGraph, target: LayerGraph) -> Iterator[Pair | tuple[str, str]]:
    """The tensors of one layer of the model, each with what it comes from; or its name and the file's, where shapes differ.

    Grade, confidence and evidence of the place are the caller's to add.
    """

    def pair(wanted: Use | None, given: Use | None) -> Iterator[Pair | tuple[str, str]]:
        if wanted is None or given is None or not (wanted.whole and given.whole and wanted.name and given.name):
            return
        if given.name not in source.tensors or wanted.name not in target.tensors:
            return
        ops = _between(given, wanted, source, target)
        yield (wanted.name, given.name) if ops is None else Pair(wanted.name, (given.name,), ops, "decided", 1.0, ())

    def made(wanted: Use | None, given: Use | None, op: Op) -> Iterator[Pair]:
        if wanted is not None and given is not None and given.whole and given.name in source.tensors:
            reshape = () if len(source.tensors[given.name].shape) == 1 else (Reshape((given.numel,)),)
            yield Pair(wanted.name, (given.name,), (*reshape, op), "decided", 1.0, (_FOLDED,))

    for role, use in new.operation.tensors.items():
        if new.kind == BATCH_NORM and role in _STATISTICS and role not in old.operation.tensors:
            continue
        if use is not new.bias:
            yield from pair(use, old.operation.tensors.get(role))
    if new.kind == BATCH_NORM and not old.operation.tensors.keys() >= set(_STATISTICS):
        # Scale and shift alone: the statistics are worked into them.
        yield from _identity(new.operation, old.bias, made, scaled=True)
    if new.norm is None:
        if old.norm is None:  # else the model has them as one, and the file does not
            yield from pair(new.bias, old.bias)
        return
    if old.norm is not None:
        yield from pair(new.bias, old.bias)
        for role, use in new.norm.tensors.items():
            yield from pair(use, old.norm.tensors.get(role))
        return
    if old.bias is not None and old.bias.numel == new.channels:
        yield from pair(new.norm.tensors.get("bias"), old.bias)
        yield from made(new.bias, old.bias, Fill(0.0))
        yield from _identity(new.norm, old.bias, made, scaled=False)


def _identity(norm: Operation, given: Use | None, made: object, *, scaled: bool) -> Iterator[Pair]:
    """A BatchNorm that changes nothing but for its shift (and its scale, where the file has one)."""
    eps = norm.settings.get("eps", _EPS)
    values: dict[str, Op] = {"running_mean": Fill(0.0), "running_var": Fill(1.0 - (eps if isinstance(eps, float) else _EPS))}
    if not scaled:
        values["weight"] = Fill(1.0)
    for role, op in values.items():
        yield from made(norm.tensors.get(role), given, op)  # type: ignore[operator]


def _between(given: Use, wanted: Use, source: LayerGraph, target: LayerGraph) -> tuple[Op, ...] | None:
    """What is done to the file's tensor as it is stored so that it is the model's as that is stored; None where shapes differ."""
    if given.shape != wanted.shape and not (given.numel == wanted.numel and 1 in (*given.shape, *wanted.shape)):
        return None
    stored, needed = source.tensors[given.name].shape, target.tensors[wanted.name].shape
    ops: list[Op] = []
    if given.turned != wanted.turned and len(stored) == 2:
        ops.append(Permute((1, 0)))
        stored = stored[::-1]
    if wanted.stored and len(stored) == len(wanted.stored):
        ops.append(Permute(wanted.stored))
        stored = tuple(stored[axis] for axis in wanted.stored)
    if stored != needed:
        if [size for size in stored if size != 1] != [size for size in needed if size != 1]:
            return None
        ops.append(Reshape(needed))
    return tuple(ops)
