"""LSTM and GRU between Keras and torch: the order of gates, one bias or two, a layer for each or all in one module.

Gates: Keras' LSTM keeps input, forget, cell, output, as torch does; its GRU keeps update, reset, new where torch keeps reset, update, new.
A bias: Keras' LSTM has one where torch adds up two; a GRU has two on both sides when it was built with ``reset_after``, and no counterpart
in torch otherwise. Kernels are transposed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.ops import Concat, Op, Permute, Reshape, Rows, Split
from ckptaudit.align.ops.biases import Sum
from ckptaudit.align.ops.fill import Fill
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import leaf, parent
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import dataclass

_TORCH = compiled_when_used(r"(weight_ih|weight_hh|bias_ih|bias_hh)((?:_l\d+)?)((?:_reverse)?)\Z")
_LSTM, _GRU = 4, 3
#: Keras' order of gates in torch's, which is the same the other way round.
_SWAP = (1, 0, 2)
_EVIDENCE = "the recurrent layer of this size"
_ORDER = "the recurrent layer of this size at the same place among them, in the same direction"


@dataclass(frozen=True, slots=True)
class _Unit:
    """One direction of one recurrent layer: its tensors by role, its sizes (gates, units, inputs)."""

    kernel: str
    recurrent: str
    biases: tuple[str, ...]
    sizes: tuple[int, int, int]
    backward: bool


def recurrent_pairs(source: LayerGraph, target: LayerGraph) -> dict[str, Pair]:
    """Pairs for all tensors of recurrent layers, by the model's name; nothing where the two sides do not have the same ones in order."""
    frameworks = source.framework, target.framework
    if set(frameworks) != {"keras", "torch"}:
        return {}
    sides = [list(_keras(side) if side.framework == "keras" else _torch(side)) for side in (source, target)]
    kinds = [[(unit.sizes, unit.backward, bool(unit.biases)) for unit in side] for side in sides]
    if not kinds[0] or kinds[0] != kinds[1]:
        return {}
    found: dict[str, Pair] = {}
    for number, (old, new) in enumerate(zip(*sides, strict=True)):
        alone = kinds[0].count(kinds[0][number]) == 1
        # Layers of one module of torch are numbered by their order; whether two modules run in their order nothing here tells.
        one_module = len({parent(unit.kernel) for unit in sides[frameworks.index("torch")]}) == 1
        for name, sources, ops in _steps(old, new, to_torch=target.framework == "torch"):
            grade, evidence = ("decided", _EVIDENCE) if alone else ("ordered" if one_module else "ambiguous", _ORDER)
            found[name] = Pair(name, sources, ops, grade, {"decided": 0.98, "ordered": 0.95}.get(grade, 0.5), (evidence,))  # type: ignore[arg-type]
    return found


def _steps(old: _Unit, new: _Unit, *, to_torch: bool) -> Iterator[tuple[str, tuple[str, ...], tuple[Op, ...]]]:
    gates, units, inputs = old.sizes
    for name, source, width in ((new.kernel, old.kernel, inputs), (new.recurrent, old.recurrent, units)):
        swap: tuple[Op, ...] = (Reshape((_GRU, units, width)), Rows(_SWAP), Reshape((_GRU * units, width))) if gates == _GRU else ()
        yield name, (source,), (Permute((1, 0)), *swap) if to_torch else (*swap, Permute((1, 0)))
    if not old.biases:
        return
    if gates == _LSTM and to_torch:
        yield new.biases[0], old.biases, ()
        yield new.biases[1], old.biases, (Fill(0.0),)
    elif gates == _LSTM:
        yield new.biases[0], old.biases, (Sum(),)
    elif to_torch:
        for index in range(2):
            taken = (Split(0, index, 2), Reshape((_GRU, units)), Rows(_SWAP), Reshape((_GRU * units,)))
            yield new.biases[index], old.biases, taken
    else:
        yield new.biases[0], old.biases, (Reshape((_GRU, units)), Rows(_SWAP), Reshape((1, _GRU * units)), Concat(0))


def _keras(graph: LayerGraph) -> Iterator[_Unit]:
    for layer in graph.layers:
        held = {leaf(spec.name).partition(":")[0]: spec for spec in layer.tensors.values()}
        kernel, recurrent, bias = (held.get(word) for word in ("kernel", "recurrent_kernel", "bias"))
        if kernel is None or recurrent is None or len(kernel.shape) != 2 or len(recurrent.shape) != 2 or not recurrent.shape[0]:
            continue
        gates, units = recurrent.shape[1] // recurrent.shape[0], recurrent.shape[0]
        wanted = {_LSTM: (_LSTM * units,), _GRU: (2, _GRU * units)}.get(gates)
        if wanted is None or (bias is not None and bias.shape != wanted) or kernel.shape[1] != recurrent.shape[1]:
            continue
        sizes = gates, units, kernel.shape[0]
        backward = any(word.startswith("backward") for word in layer.path.split("/"))
        yield _Unit(kernel.name, recurrent.name, () if bias is None else (bias.name,), sizes, backward)


def _torch(graph: LayerGraph) -> Iterator[_Unit]:
    units: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in graph.tensors:
        if match := _TORCH.fullmatch(leaf(name)):
            units.setdefault((parent(name), match[2], match[3]), {})[match[1]] = name
    for (_, _, direction), held in units.items():
        if not {"weight_ih", "weight_hh"} <= held.keys():
            continue
        kernel, recurrent = (graph.tensors[held[word]].shape for word in ("weight_ih", "weight_hh"))
        if len(kernel) != 2 or len(recurrent) != 2 or not recurrent[1] or kernel[0] != recurrent[0]:
            continue
        gates = recurrent[0] // recurrent[1]
        if gates not in (_LSTM, _GRU) or recurrent[0] % recurrent[1]:
            continue
        biases = tuple(held[word] for word in ("bias_ih", "bias_hh") if word in held)
        yield _Unit(held["weight_ih"], held["weight_hh"], biases, (gates, recurrent[1], kernel[1]), bool(direction))
