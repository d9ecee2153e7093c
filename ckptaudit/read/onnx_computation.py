"""What the nodes of an ONNX graph compute, in the words that all frameworks share."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.graph import computation as words
from ckptaudit.graph.computation import Computation, Operation, Port, Use
from ckptaudit.graph.tensors import is_float
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read.onnx_graph import Graph, Node
    from ckptaudit.read.stored import StoredTensor

#: Operators whose inputs are weights by their position.
_ROLES: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "Conv": (words.CONV, {1: "weight", 2: "bias"}),
    "ConvTranspose": (words.CONV_TRANSPOSE, {1: "weight", 2: "bias"}),
    "Gemm": (words.LINEAR, {1: "weight", 2: "bias"}),
    "BatchNormalization": (words.BATCH_NORM, {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}),
    "LayerNormalization": (words.NORM, {1: "weight", 2: "bias"}),
    "GroupNormalization": (words.NORM, {1: "weight", 2: "bias"}),
    "InstanceNormalization": (words.NORM, {1: "weight", 2: "bias"}),
    "LSTM": (words.RECURRENT, {1: "weight_ih", 2: "weight_hh", 3: "bias"}),
    "GRU": (words.RECURRENT, {1: "weight_ih", 2: "weight_hh", 3: "bias"}),
    "RNN": (words.RECURRENT, {1: "weight_ih", 2: "weight_hh", 3: "bias"}),
    "PRelu": (words.PRELU, {1: "weight"}),
}
#: Operators without weights that the alignment asks for by name; any other keeps its own.
_KINDS = {"Concat": words.CONCAT, "MatMul": words.MATMUL, "Sub": words.SUBTRACT, "Div": words.DIVIDE}
#: What gives sizes and not values: nothing of the dataflow passes through.
_SIZES = frozenset({"Shape", "Size", "Constant", "ConstantOfShape", "Range"})
#: Operators whose further inputs are settings, numbers with a point or not.
_SET_BY_TENSORS = frozenset({"Resize", "Upsample", "Slice", "Pad", "Clip", "Reshape", "Tile", "Expand", "TopK", "OneHot", "Dropout"})
#: What leaves the values of a constant in their order, and what only lays them out anew.
_SAME = frozenset({"Identity", "Cast", "Dropout", "Expand", "Unsqueeze", "Squeeze"})
_LAYOUTS = _SAME | {"Transpose", "Reshape", "Flatten"}
#: Attribute → the word for it, and what it has to be: anything else means nothing, and onnxruntime refuses the file.
_SETTINGS: Mapping[str, tuple[str, type]] = {
    "strides": ("stride", tuple),
    "dilations": ("dilation", tuple),
    "group": ("groups", int),
    "epsilon": ("eps", float),
    "axis": ("axis", int),
    "coordinate_transformation_mode": ("coordinates", str),
}


@dataclass(frozen=True, slots=True)
class _Constant:
    """A tensor of the file, or what is computed from some."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    turned: bool = False
    whole: bool = True


def computation_of(graph: Graph) -> Computation:
    """The operations of the graph itself; what subgraphs compute is one operation without weights each."""
    return _Reader(graph).read()


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        held: dict[str, StoredTensor] = {**graph.constants, **graph.tensors}
        self.constants: dict[str, _Constant] = {}
        for used, name in graph.known.items():
            tensor = held[name]
            # Integers are sizes and indices, never weights.
            self.constants[used] = _Constant((name,) if is_float(tensor.dtype) else (), tensor.shape)
        self.producers: dict[str, tuple[int, ...]] = dict.fromkeys(graph.inputs, (words.INPUT,))
        self.operations: list[Operation] = []

    def read(self) -> Computation:
        for node in self.graph.own_nodes:
            self._see(node)
        ports = self.graph.ports
        return Computation(
            tuple(self.operations),
            tuple(self.producers.get(name, ()) for name in self.graph.outputs),
            tuple(ports.get(name, Port(name)) for name in self.graph.inputs),
            tuple(ports.get(name, Port(name)) for name in self.graph.outputs),
        )

    def _see(self, node: Node) -> None:
        operands = tuple(self.producers.get(name, ()) for name in node.inputs)
        if node.op in _SIZES or not any(operands):
            self._compute_constant(node)
            return
        kind, roles = _ROLES.get(node.op, (_KINDS.get(node.op, node.op), {}))
        found = {position: self.constants[name] for position, name in enumerate(node.inputs) if name in self.constants}
        tensors: dict[str, Use] = {}
        for position, constant in found.items():
            role = roles.get(position)
            if role is not None:
                tensors[role] = _use(constant, turned=kind == words.LINEAR and role == "weight" and not node.settings.get("transB"))
            elif constant.names and prod(constant.shape) > 1 and node.op not in _SET_BY_TENSORS:
                kind, role, turned = _role_elsewhere(node.op, position, constant, kind)
                tensors[role if role not in tensors else f"{role}_{position}"] = _use(constant, turned)
        numbers = [constant.names[0] for constant in found.values() if len(constant.names) == 1 and prod(constant.shape) == 1]
        settings: dict[str, Any] = {"scalar": numbers[0]} if len(numbers) == 1 and not tensors else {}
        settings |= {"scaled_behind": True} if node.op == "InstanceNormalization" else {}
        settings |= {"domain": node.domain} if node.domain not in ("", "ai.onnx", "ai.onnx.ml") else {}
        for key, value in node.settings.items():
            if key in _SETTINGS and isinstance(value, _SETTINGS[key][1]):
                settings[_SETTINGS[key][0]] = value
        self._add(node, Operation(kind, node.name or f"{node.op}-{len(self.operations)}", operands, _frozen(tensors), _frozen(settings)))

    def _add(self, node: Node, operation: Operation) -> None:
        self.producers.update(dict.fromkeys(node.outputs, (len(self.operations),)))
        self.operations.append(operation)

    def _compute_constant(self, node: Node) -> None:
        """Nothing of the input reaches it: what comes out is a constant, too, and may be a tensor of the file laid out anew."""
        given = [self.constants[name] for name in node.inputs if name in self.constants and self.constants[name].names]
        # What is computed of weights, as where they are standardised, has the shape of the one with most axes, as a rule.
        shape = max((constant.shape for constant in given), key=len, default=())
        made = _Constant(tuple(name for constant in given for name in constant.names)[:8], shape, whole=False)
        if node.op in _LAYOUTS and len(given) == 1 and node.inputs and self.constants.get(node.inputs[0]) is given[0]:
            old = given[0]
            order = node.settings.get("perm")
            if node.op in _SAME:
                made = old
            elif node.op == "Transpose" and len(old.shape) == 2 and order in ((1, 0), None):
                made = _Constant(old.names, old.shape[::-1], not old.turned, old.whole)
            else:
                made = _Constant(old.names, old.shape, old.turned, whole=False)
        for name in node.outputs:
            self.constants.setdefault(name, made)


def _use(constant: _Constant, turned: bool = False) -> Use:
    shape = constant.shape[::-1] if turned else constant.shape
    name = constant.names[0] if constant.names else ""
    return Use(name, shape, constant.turned != turned, constant.whole and len(constant.names) == 1)


def _role_elsewhere(op: str, position: int, constant: _Constant, kind: str) -> tuple[str, str, bool]:
    """Kind of the operation, role of the tensor, and whether it is used the other way round, for operators that take anything."""
    if op == "MatMul" and len(constant.shape) == 2:
        return words.LINEAR, "weight", position == 1
    if op == "Gather" and position == 0 and len(constant.shape) == 2:
        return words.EMBEDDING, "weight", False
    if op == "Mul":
        return words.SCALE, "weight", False
    if op == "Add":
        return words.SHIFT, "bias", False
    return (kind if kind in (words.CONCAT, words.SUBTRACT, words.DIVIDE) else words.PARAMETER), "parameter", False


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))
