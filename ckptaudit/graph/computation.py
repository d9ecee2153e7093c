"""What a network computes, operation by operation: the dataflow, which is left where names are lost."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from ckptaudit.records import dataclass, field

#: Kinds of operations that other modules ask for; any other kind is only a word for what has no weights.
CONV, CONV_TRANSPOSE, LINEAR, EMBEDDING, RECURRENT = "conv", "conv_transpose", "linear", "embedding", "recurrent"
BATCH_NORM, NORM, PRELU = "batch_norm", "norm", "prelu"
SCALE, SHIFT, PARAMETER = "scale", "shift", "parameter"
CONCAT, MATMUL, ATTENTION, SUBTRACT, DIVIDE = "concat", "matmul", "attention", "subtract", "divide"

#: Stands for the network's input among producers.
INPUT = -1


@dataclass(frozen=True, slots=True)
class Use:
    """A tensor as an operation uses it.

    Attributes
    ----------
    name:
        Of the tensor in its file or model.
    shape:
        As used: (out, in / groups, …) of a convolution, (in, out / groups, …) of a transposed one, (out, in) of a linear layer.
    turned:
        It is stored the other way round, (in, out).
    whole:
        It is used as it is stored, but for its layout; not a part of it, nor what was computed from it.
    stored:
        The permutation that brings it from ``shape`` to the layout in which it is stored, where that is a kernel of Keras.
    """

    name: str
    shape: tuple[int, ...]
    turned: bool = False
    whole: bool = True
    stored: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Operation:
    """One step.

    Attributes
    ----------
    kind:
        One of the words above, or what the library calls it.
    path:
        The module or the node that it belongs to, for people.
    operands:
        For each input in its position, numbers of the operations that made it, or :data:`INPUT`; empty for a constant.
    tensors:
        What it knows from training, by role: ``weight``, ``bias``, ``running_mean``, ``running_var``; ``parameter`` where it has no role.
    settings:
        ``stride``, ``dilation``, ``groups``, ``eps`` …, where they are known.
    """

    kind: str
    path: str
    operands: tuple[tuple[int, ...], ...]
    tensors: Mapping[str, Use] = field(default_factory=lambda: MappingProxyType({}))
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Port:
    """What a network takes or gives: the name, each size as a number or as the word that stands for any number, and the dtype."""

    name: str
    shape: tuple[int | str, ...] | None = None
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class Computation:
    """Operations in an order in which each comes behind those that it takes from.

    Attributes
    ----------
    operations:
        Numbered from 0.
    results:
        For each output of the network, numbers of the operations that made it.
    inputs, outputs:
        What it takes and gives, where that is told.
    """

    operations: tuple[Operation, ...]
    results: tuple[tuple[int, ...], ...] = ()
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()

    def leading_to(self, result: int) -> Computation:
        """The part that one output needs, numbered anew."""
        needed = set()
        waiting = list(self.results[result])
        while waiting:
            number = waiting.pop()
            if number != INPUT and number not in needed:
                needed.add(number)
                waiting += [producer for operand in self.operations[number].operands for producer in operand]
        order = {old: new for new, old in enumerate(sorted(needed))} | {INPUT: INPUT}
        kept = tuple(
            Operation(old.kind, old.path, tuple(tuple(order[p] for p in operand) for operand in old.operands), old.tensors, old.settings)
            for old in (self.operations[number] for number in sorted(needed))
        )
        return Computation(kept, (tuple(order[number] for number in self.results[result]),), self.inputs, self.outputs)
