"""ONNX's GraphProto: initializers and constants, also within subgraphs, and which layer feeds which."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError
from ckptaudit.graph.computation import Port
from ckptaudit.graph.names import parent
from ckptaudit.read.onnx_tensors import TensorProtos, dtype_of, text
from ckptaudit.read.protobuf import signed, spans, varint
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.source import Source
    from ckptaudit.read.stored import StoredTensor

_MAX_NODES = 1 << 20
_MAX_TENSORS = 1 << 20
_MAX_DEPTH = 32
_MAX_WORK = 2_000_000
#: Of more nodes than this it is not worked out what they compute; the graphs of large language models have some 20,000.
MAX_COMPUTED = 100_000
#: Words among attributes (``SAME_UPPER``, ``half_pixel``) are shorter.
_MAX_WORD = 100
#: Bytes of a node that is taken into memory as a whole.
_SMALL_NODE = 1 << 12
#: The version of ONNX's operators from which on a node says itself that it is in train mode.
_BATCH_NORM_TELLS, _DROPOUT_TELLS, _TEST_ATTRIBUTE = 14, 12, 7


@dataclass(slots=True)
class Node:
    """A NodeProto; ``settings`` are its attributes that are numbers, lists of integers, or short words."""

    op: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    domain: str = ""
    settings: dict[str, int | float | str | tuple[int, ...]] = field(default_factory=dict)
    tensors: list[slice] = field(default_factory=list)
    sparse: list[slice] = field(default_factory=list)
    graphs: list[tuple[str, slice]] = field(default_factory=list)


class Graph:
    """What the graphs of one model hold.

    Attributes
    ----------
    tensors:
        Initializers, in the file's order, those of subgraphs after the graph's own. A name that is taken already gets the path of its
        subgraph in front.
    constants:
        Values of ``Constant`` nodes, by the name of what the node gives.
    modules:
        Which operator uses the tensors of a path, where it is only one.
    feeds:
        Pairs of paths that own tensors: producer, consumer.
    operators:
        How often each operator is used.
    train_mode:
        How many nodes of each operator are in train mode.
    inputs, outputs:
        Names of what the model takes and gives.
    ports:
        The same by name, with sizes and dtypes.
    own_nodes:
        Nodes of the graph itself, in their order, at most :data:`MAX_COMPUTED` and one more.
    known:
        By the name that nodes use, the name in ``tensors`` or ``constants``, for the graph itself.
    """

    def __init__(self, source: Source, protos: TensorProtos) -> None:
        self._data: Any = source.data
        self._protos = protos
        self.name = ""
        self.tensors: dict[str, StoredTensor] = {}
        self.constants: dict[str, StoredTensor] = {}
        self.modules: dict[str, str] = {}
        self.feeds: dict[tuple[str, str], None] = {}
        self.operators: dict[str, int] = {}
        self.train_mode: dict[str, int] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.ports: dict[str, Port] = {}
        self.own_nodes: list[Node] = []
        self.known: dict[str, str] = {}
        self.functions = 0
        self._nodes = 0
        self._left = _MAX_WORK

    def read(self, span: slice, opset: int) -> None:
        """Read the graph at ``span`` and all graphs within it.

        Raises
        ------
        CorruptCheckpointError
            A message is damaged, a tensor contradicts itself, or two initializers of one graph have one name.
        """
        self._opset = opset
        self._graph(span, "", {}, 0)

    def read_function(self, span: slice) -> None:
        """Read the nodes of a FunctionProto, which may hold constants."""
        self.functions += 1
        nodes = [value for number, _, value in self._spans(span) if number == 7 and isinstance(value, slice)]
        self._run(nodes, f"function-{self.functions}", {}, 0)

    def _spans(self, span: slice) -> Iterator[tuple[int, int, int | slice]]:
        return spans(self._data, span.start, span.stop, self._bad)

    def _bad(self, reason: str) -> CheckpointError:
        return self._protos.corrupt(f"whose graph {reason}")

    def _text(self, span: slice) -> str:
        return text(self._data, span, self._bad)

    def _graph(self, span: slice, path: str, known: dict[str, str], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise self._bad(f"holds graphs nested more than {_MAX_DEPTH} deep")
        nodes: list[slice] = []
        own: set[str] = set()
        for number, _, value in self._spans(span):
            if not isinstance(value, slice):
                continue
            if number == 1:
                nodes.append(value)
                if len(nodes) > _MAX_NODES:
                    raise self._bad(f"has more than {_MAX_NODES:,} nodes")
            elif number in (5, 15):
                name, tensor = self._protos.read(value) if number == 5 else self._sparse(value)
                if name in own:
                    raise self._bad(f"has two initializers called {name!r}: readers disagree on which of them counts")
                own.add(name)
                known = {**known} if not own and depth else known
                self._add(self.tensors, name, path, tensor, known)
            elif not depth and number == 2:
                self.name = self._text(value)
            elif not depth and number in (11, 12):
                self._interface(self.inputs if number == 11 else self.outputs, value)
        if not depth:
            self.known = known
            # Before IR version 4 every initializer had to be listed as an input, too.
            self.inputs = [name for name in self.inputs if name not in own]
        self._run(nodes, path, known, depth)

    def _add(self, into: dict[str, StoredTensor], name: str, path: str, tensor: StoredTensor, known: dict[str, str]) -> None:
        kept = name
        while kept in self.tensors or kept in self.constants:
            kept = f"{path or 'graph'}/{kept}"
            if len(kept) > len(name) + 300:
                raise self._bad(f"has too many tensors called {name!r}")
        into[kept] = tensor
        known[name] = kept
        if len(self.tensors) + len(self.constants) > _MAX_TENSORS:
            raise self._bad(f"has more than {_MAX_TENSORS:,} tensors")

    def _sparse(self, span: slice) -> tuple[str, StoredTensor]:
        """The values of a SparseTensorProto, which carry its name; where they stand among zeros is not laid out."""
        for number, _, value in self._spans(span):
            if number == 1 and isinstance(value, slice):
                return self._protos.read(value)
        raise self._bad("has a sparse tensor without values")

    def _interface(self, into: list[str], span: slice) -> None:
        name, shape, dtype = "", None, ""
        for number, _, value in self._spans(span):
            if not isinstance(value, slice):
                continue
            if number == 1:
                name = self._text(value)
            elif number == 2:
                shape, dtype = self._type(value)
        if name and len(into) < _MAX_TENSORS:
            into.append(name)
            self.ports[name] = Port(name, shape, dtype)

    def _type(self, span: slice) -> tuple[tuple[int | str, ...] | None, str]:
        """Shape and dtype of a TypeProto; the shape is None where nothing is said of it, or where it is no tensor."""
        shape: tuple[int | str, ...] | None = None
        dtype = ""
        for tensor in self._messages(span, 1):
            for number, _, value in self._spans(tensor):
                if number == 1 and isinstance(value, int):
                    dtype = dtype_of(value)
                elif number == 2 and isinstance(value, slice):
                    shape = tuple(self._size(size) for size in self._messages(value, 1))
        return shape, dtype

    def _size(self, span: slice) -> int | str:
        for number, _, value in self._spans(span):
            if number == 1 and isinstance(value, int):
                return signed(value)
            if number == 2 and isinstance(value, slice):
                return self._text(value) or "?"
        return "?"

    def _messages(self, span: slice, wanted: int) -> Iterator[slice]:
        found = 0
        for number, _, value in self._spans(span):
            if number == wanted and isinstance(value, slice):
                found += 1
                if found > _MAX_DEPTH:
                    raise self._bad(f"has an input or output of more than {_MAX_DEPTH} dimensions")
                yield value

    def _run(self, nodes: list[slice], path: str, known: dict[str, str], depth: int) -> None:
        """Walk the nodes in their order, which the format demands to be that of the dataflow."""
        sources: dict[str, frozenset[str]] = {}
        for position, span in enumerate(nodes):
            self._nodes += 1
            if self._nodes > _MAX_NODES:
                raise self._bad(f"has more than {_MAX_NODES:,} nodes")
            node = self._node(span)
            self.operators[node.op] = self.operators.get(node.op, 0) + 1
            if len(self.operators) > 10_000:
                raise self._bad("uses more than 10,000 operators")
            here = f"{path}/{node.name or f'{node.op}-{position}'}" if path else node.name or f"{node.op}-{position}"
            given = node.outputs[0] if node.outputs else here
            for at in node.sparse:
                name, tensor = self._sparse(at)
                self._add(self.constants, name or given, path, tensor, known)
            for at in node.tensors:
                # Of a constant the node's output is the name; other operators hold tensors as settings.
                name, tensor = self._protos.read(at, given)
                self._add(self.constants, given if node.op == "Constant" else name, path, tensor, known)
            self._count_train_mode(node, known)
            if not path and len(self.own_nodes) <= MAX_COMPUTED:
                self.own_nodes.append(node)
            self._connect(node, known, sources)
            for attribute, at in node.graphs:
                self._graph(at, f"{here}.{attribute}", dict(known), depth + 1)

    def _node(self, span: slice) -> Node:
        node = Node()
        # A node is small, and is looked at field by field; a constant's tensor within it may be large.
        whole = span.stop - span.start > _SMALL_NODE
        data, shift = (self._data, 0) if whole else (self._data[span], span.start)
        for number, _, value in spans(data, span.start - shift, span.stop - shift, self._bad):
            if not isinstance(value, slice):
                continue
            if number == 1:
                node.inputs.append(text(data, value, self._bad))
            elif number == 2:
                node.outputs.append(text(data, value, self._bad))
            elif number == 3:
                node.name = text(data, value, self._bad)
            elif number == 4:
                node.op = text(data, value, self._bad)
            elif number == 5:
                self._attribute(node, data, value, shift)
            elif number == 7:
                node.domain = text(data, value, self._bad)
        return node

    def _attribute(self, node: Node, data: Any, span: slice, shift: int) -> None:
        """Note what the attribute at ``span`` of ``data``, which begins at byte ``shift`` of the file, tells."""
        name, tensors, graphs = "", [], []
        told: int | float | str | None = None
        many: list[int] = []
        for number, _, value in spans(data, span.start, span.stop, self._bad):
            if isinstance(value, int):
                if number == 3:
                    told = signed(value)
                elif number == 2:
                    told = float(unpack("<f", value.to_bytes(4, "little"))[0]) if value < 1 << 32 else None
                elif number == 8 and len(many) < _MAX_DEPTH:
                    many.append(signed(value))
            elif number == 1:
                name = text(data, value, self._bad)
            elif number == 4 and value.stop - value.start < _MAX_WORD:
                told = text(data, value, self._bad)
            elif number == 8:
                position = value.start
                while position < value.stop and len(many) < _MAX_DEPTH:
                    item, position = varint(data, position, self._bad, value.stop)
                    many.append(signed(item))
            elif number in (5, 10):
                tensors.append(_moved(value, shift))
            elif number in (6, 11):
                graphs.append(_moved(value, shift))
            elif number in (22, 23):
                node.sparse.append(_moved(value, shift))
        if name and (many or told is not None):
            node.settings[name] = tuple(many) if many else told  # type: ignore[assignment]
        node.tensors += tensors
        node.graphs += [(name or "graph", at) for at in graphs]

    def _count_train_mode(self, node: Node, known: dict[str, str]) -> None:
        if node.domain not in ("", "ai.onnx") or node.op not in ("BatchNormalization", "Dropout"):
            return
        if self._opset < _TEST_ATTRIBUTE:
            training = not node.settings.get("is_test")
        elif node.op == "BatchNormalization":
            tells = self._opset >= _BATCH_NORM_TELLS
            training = bool(node.settings.get("training_mode")) if tells else sum(map(bool, node.outputs)) > 1
        else:
            training = self._opset >= _DROPOUT_TELLS and len(node.inputs) > 2 and self._is_true(known.get(node.inputs[2], ""))
        if training:
            self.train_mode[node.op] = self.train_mode.get(node.op, 0) + 1

    def _is_true(self, name: str) -> bool:
        tensor = self.constants.get(name) or self.tensors.get(name)
        if tensor is None or tensor.dtype != "bool" or tensor.shape not in ((), (1,)):
            return False
        try:
            return bool(tensor.read().any())
        except CheckpointError:
            return False

    def _connect(self, node: Node, known: dict[str, str], sources: dict[str, frozenset[str]]) -> None:
        """Note which layers the node's result comes from; nodes without tensors pass on what they get."""
        if self._left <= 0:
            return
        if not node.inputs:
            self._left -= 1
            return
        owned = tuple(dict.fromkeys(path for name in node.inputs if name in known and (path := parent(known[name]))))
        merged: frozenset[str] = frozenset().union(*(sources.get(name, frozenset()) for name in node.inputs if name not in known))
        self._left -= 1 + len(merged) * max(1, len(owned))
        for path in owned:
            self.modules.setdefault(path, node.op)
            self.feeds.update(((producer, path), None) for producer in sorted(merged) if producer != path)
        result = frozenset(owned) if owned else merged
        if result:
            sources.update(dict.fromkeys(node.outputs, result))


def _moved(span: slice, shift: int) -> slice:
    return slice(span.start + shift, span.stop + shift) if shift else span


def opset_of(source: Source, span: slice, protos: TensorProtos) -> tuple[str, int]:
    """Domain and version of an OperatorSetIdProto."""
    domain, version = "", 0
    for number, _, value in spans(source.data, span.start, span.stop, protos.corrupt):
        if number == 1 and isinstance(value, slice):
            domain = text(source.data, value, protos.corrupt)
        elif number == 2 and isinstance(value, int):
            version = signed(value)
    return domain or "ai.onnx", version
