"""Layers as the dataflow shows them: an operation with weights, with the bias and the BatchNorm behind it that belong to it alone.

Exporters spread a layer over several nodes (a product, then an addition) or fold two into one (a convolution and its BatchNorm). Brought
to units both are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph import computation as words
from ckptaudit.graph.computation import INPUT, Computation, Operation, Use
from ckptaudit.records import dataclass, field, replace

#: A step on the way from one unit to the next whose operands are no equals: what it is, and the position.
Step = tuple[str, int]
#: Where a unit's input comes from: a unit (or :data:`INPUT`), and the steps on the way.
Source = tuple[int, tuple[Step, ...]]

#: Layers that multiply with a kernel or a matrix.
MAIN = frozenset({words.CONV, words.CONV_TRANSPOSE, words.LINEAR})
_ALONE = frozenset({words.BATCH_NORM, words.NORM, words.EMBEDDING, words.RECURRENT, words.PRELU})
_ORDERED = frozenset({words.CONCAT, words.MATMUL, words.SUBTRACT, words.DIVIDE})
#: Of more sources than this, or further steps, ways are not kept apart.
_MAX_SOURCES, _MAX_STEPS = 512, 8
#: A network that is more entangled than this is not followed.
_MAX_WORK = 500_000
#: What a fused attention does with query, key and value, as two products.
_ATTENTION: tuple[tuple[Step, ...], ...] = (
    ((words.MATMUL, 0), (words.MATMUL, 0)),
    ((words.MATMUL, 1), (words.MATMUL, 0)),
    ((words.MATMUL, 1),),
)


@dataclass(slots=True)
class Unit:
    """One layer.

    Attributes
    ----------
    kind:
        What it computes with its weight.
    operation:
        The one with the weight.
    weight, bias:
        Its own; None where it has none.
    norm:
        The BatchNorm behind it, of whose input it is the only source and that is its only consumer.
    sources, parameters:
        Where its input comes from; and what else it owns, by role.
    result:
        What it gives is an output of the network, with no other unit behind it.
    """

    kind: str
    operation: Operation
    weight: Use | None = None
    bias: Use | None = None
    norm: Operation | None = None
    sources: frozenset[Source] = frozenset()
    result: bool = False
    tail: int = field(default=0, repr=False)

    @property
    def channels(self) -> int | None:
        """How many it gives."""
        if self.weight is None or not self.weight.shape:
            return None
        if self.kind == words.CONV_TRANSPOSE:
            groups = self.operation.settings.get("groups", 1)
            return self.weight.shape[1] * groups if len(self.weight.shape) > 1 and isinstance(groups, int) else None
        return self.weight.shape[0]

    def uses(self) -> Iterator[Use]:
        """Every tensor of it."""
        yield from self.operation.tensors.values()
        if self.bias is not None and self.bias not in self.operation.tensors.values():
            yield self.bias
        if self.norm is not None:
            yield from self.norm.tensors.values()


@dataclass(frozen=True, slots=True)
class Units:
    """The layers of a network: ``strong`` ones carry the structure, ``weak`` ones (a table of positions, a scale) hang between them."""

    strong: tuple[Unit, ...]
    weak: tuple[Unit, ...]


def units_of(computation: Computation) -> Units:
    """Bring operations together to layers; none where that takes too long, as for a graph made for it."""
    return _Gathering(computation).gather()


class _Gathering:
    def __init__(self, computation: Computation) -> None:
        self.computation = computation
        self.strong: list[Unit] = []
        self.weak: list[Unit] = []
        self.consumers = [0] * len(computation.operations)
        for operands in (*(op.operands for op in computation.operations), computation.results):
            for operand in operands:
                for producer in operand:
                    if producer != INPUT:
                        self.consumers[producer] += 1
        #: The unit that an operation ends, and what comes out of each operation.
        self.ending: dict[int, Unit] = {}
        self.flows: list[frozenset[Source]] = []
        #: How many parts a concatenation has.
        self.widths: dict[int, int] = {}

    def gather(self) -> Units:
        left = _MAX_WORK
        for number, operation in enumerate(self.computation.operations):
            self.flows.append(self._flow(number, operation))
            left -= 1 + len(self.flows[-1])
            if left < 0:
                return Units((), ())
        results = {producer for operand in self.computation.results for producer in operand if producer != INPUT}
        ends = {source for number in results for source, _ in self.flows[number]}
        for number, unit in enumerate(self.strong):
            unit.result = number in ends
        return Units(tuple(self.strong), tuple(self.weak))

    def _flow(self, number: int, operation: Operation) -> frozenset[Source]:
        before = self._only_before(operation)
        if before is not None and self._joins(before, operation):
            before.tail = number
            self.ending[number] = before
            return self.flows[next(p for operand in operation.operands for p in operand)]
        arriving = self._arriving(operation)
        if operation.kind in MAIN | _ALONE and "weight" in operation.tensors:
            unit = Unit(operation.kind, operation, operation.tensors["weight"], operation.tensors.get("bias"))
            unit.sources, unit.tail = arriving, number
            self.ending[number] = unit
            self.strong.append(unit)
            return frozenset({(len(self.strong) - 1, ())})
        if operation.tensors:
            unit = Unit(operation.kind, operation, operation.tensors.get("weight"), operation.tensors.get("bias"))
            unit.sources, unit.tail = arriving, number
            self.weak.append(unit)
            self.ending[number] = unit
        return arriving

    def _only_before(self, operation: Operation) -> Unit | None:
        """The unit whose end is all that flows into an operation, and that flows nowhere else."""
        producers = [producer for operand in operation.operands for producer in operand]
        if len(producers) != 1 or producers[0] == INPUT or self.consumers[producers[0]] != 1:
            return None
        return self.ending.get(self._through_layout(producers[0]))

    def _through_layout(self, number: int) -> int:
        """The operation itself, or what stands before operations that only lay out its result anew."""
        while number not in self.ending:
            operation = self.computation.operations[number]
            producers = [producer for operand in operation.operands for producer in operand]
            if operation.kind not in _LAYOUTS or len(producers) != 1 or producers[0] == INPUT or self.consumers[producers[0]] != 1:
                break
            number = producers[0]
        return number

    def _joins(self, unit: Unit, operation: Operation) -> bool:
        """Add an operation to the unit before it, where it belongs to it."""
        if operation.kind == words.BATCH_NORM and unit.kind in MAIN and unit.norm is None and unit.channels is not None:
            if operation.tensors.keys() >= {"weight", "bias"} and operation.tensors["weight"].shape == (unit.channels,):
                unit.norm = operation
                return True
            return False
        scale, bias = operation.tensors.get("weight"), operation.tensors.get("bias")
        if operation.kind == words.SCALE and scale is not None and unit.kind == words.NORM and unit.operation.settings.get("scaled_behind"):
            # Normalisation by groups is written as one of instances that scales by 1, and a scale behind it.
            unit.operation, unit.weight, unit.bias = operation, _flat(scale), None
            return True
        if operation.kind != words.SHIFT or bias is None or unit.bias is not None or unit.norm is not None:
            return False
        if unit.kind in MAIN and bias.numel == unit.channels:
            unit.bias = bias
            return True
        if unit.weight is None or unit.weight.numel != bias.numel:
            return False
        if unit.kind == words.NORM:
            unit.bias = bias
            return True
        if unit.kind == words.SCALE:
            unit.weight, unit.bias = _flat(unit.weight), bias
            self._promote(unit)
            return True
        return False

    def _promote(self, unit: Unit) -> None:
        """A scale and a shift are a normalisation's, behind a division; else a BatchNorm that was worked into both."""
        producers = [producer for operand in unit.operation.operands for producer in operand]
        before = self.computation.operations[producers[0]].kind if producers and producers[0] != INPUT else ""
        unit.kind = words.NORM if before == words.DIVIDE else words.BATCH_NORM
        self.weak.remove(unit)
        self.strong.append(unit)
        number = len(self.strong) - 1
        self.flows[unit.tail] = frozenset({(number, ())})

    def _arriving(self, operation: Operation) -> frozenset[Source]:
        found: set[Source] = set()
        position = -1
        for number, operand in enumerate(operation.operands):
            if operation.kind == words.CONCAT and (inner := self._concatenated(operand)) is not None:
                # One within another is one with more parts.
                for source, way in self.flows[inner]:
                    if way and way[-1][0] == words.CONCAT:
                        found.add((source, (*way[:-1], (words.CONCAT, position + 1 + way[-1][1]))))
                    else:
                        found.add((source, way))
                position += self.widths[inner]
                continue
            position += 1
            steps: tuple[Step, ...] = ((operation.kind, position),) if operation.kind in _ORDERED else ()
            if operation.kind == words.ATTENTION and number < len(_ATTENTION):
                steps = _ATTENTION[number]
            for producer in operand:
                if producer == INPUT:
                    found.add((INPUT, steps))
                else:
                    found.update((source, (*before, *steps)[-_MAX_STEPS:]) for source, before in self.flows[producer])
        self.widths[len(self.flows)] = position + 1
        if len(found) > _MAX_SOURCES:
            found = {(source, ()) for source, _ in found}
        return frozenset(found)

    def _concatenated(self, operand: tuple[int, ...]) -> int | None:
        """The concatenation that makes an operand and nothing else."""
        if len(operand) != 1 or operand[0] == INPUT or self.consumers[operand[0]] != 1:
            return None
        return operand[0] if self.computation.operations[operand[0]].kind == words.CONCAT else None


def _flat(use: Use) -> Use:
    """As a vector, without the axes along which it is repeated."""
    return replace(use, shape=(use.numel,))


#: Operations that change nothing but how values lie, as torch and ONNX call them.
_LAYOUTS = frozenset(
    {"view", "_unsafe_view", "reshape", "transpose", "permute", "squeeze", "unsqueeze", "clone", "expand", "alias", "detach"}
    | {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Flatten"}
)
