"""ONNX: one protocol buffer with the graph and, among its nodes, the weights; large ones in files beside it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.onnx_tensors import TensorProtos
    from ckptaudit.read.source import Source
    from ckptaudit.read.stored import StoredTensor

NAME = "onnx"

_GRAPH, _OPSET, _PROPERTY, _FUNCTION = 7, 8, 14, 25
#: The fields of a ModelProto, with whether each is a number.
_FIELDS = MappingProxyType(
    {1: True, 2: False, 3: False, 4: False, 5: True, 6: False, 7: False, 8: False, 14: False, 20: False, 25: False, 26: False}
)
_MAX_FIELDS = 100_000
_MAX_LISTED = 100
_WORDS = MappingProxyType({2: "producer", 3: "producer_version", 4: "domain"})


class _Unlike(Exception):  # noqa: N818 -- never leaves this module
    """It is no ModelProto."""


def recognise(source: Source) -> bool:
    """Whether it begins as exporters begin (IR version, then the producer or the graph), or is from end to end fields of a model."""
    head = source.head
    if len(head) > 3 and head[0] == 0x08 and 1 <= head[1] <= 20 and head[2] in (0x12, 0x3A, 0x42, 0x1A, 0x22, 0x28):
        return not _is_saved_model(head)
    return head[0] >> 3 in _FIELDS and _is_model(source)


def _is_saved_model(head: bytes) -> bool:
    """TensorFlow's SavedModel begins alike: schema version 1, then a graph with its meta information, which is no producer's name."""
    return head[1] == 1 and head[2] == 0x12 and b"\x0a" in head[3:9]


def _is_model(source: Source) -> bool:
    from ckptaudit.read.protobuf import VARINT, spans

    graph = False
    try:
        for count, (number, wire, _) in enumerate(spans(source.data, 0, source.size, _Unlike)):
            if _FIELDS.get(number) is not (wire == VARINT) or count > _MAX_FIELDS:
                return False
            graph = graph or number == _GRAPH
    except _Unlike:
        return False
    return graph


def read(source: Source) -> Checkpoint:
    """Read names, shapes and places of all initializers and constants, also within subgraphs, and which feeds which."""
    from ckptaudit.read.checkpoint import Branch, Checkpoint, Remark
    from ckptaudit.read.onnx_computation import computation_of
    from ckptaudit.read.onnx_graph import MAX_COMPUTED, Graph
    from ckptaudit.read.onnx_tensors import TensorProtos

    protos = TensorProtos(source)
    told, opsets, at, functions = _model(source, protos)
    graph = Graph(source, protos)
    graph.read(at, opsets.get("ai.onnx", 0))
    for span in functions:
        graph.read_function(span)
    training = ", ".join(f"{count:,} of {graph.operators[op]:,} {op} nodes" for op, count in graph.train_mode.items())
    told.update(
        opset=opsets,
        graph=graph.name,
        inputs=graph.inputs[:_MAX_LISTED],
        outputs=graph.outputs[:_MAX_LISTED],
        nodes=sum(graph.operators.values()),
        train_mode=bool(training),
    )
    if protos.outside:
        told["external_data"] = dict(list(protos.outside.items())[:_MAX_LISTED])
    remarks: list[str] = [Remark(f"the graph was exported in train mode: {training}", severity="note")] if training else []
    remarks += [
        Remark(
            f"the external file {name!r} is missing: names and shapes of {count:,} tensors are known, their values are not",
            "missing-values",
        )
        for name, count in protos.lost.items()
    ]
    if protos.segments:
        remarks.append(f"{protos.segments:,} tensors claim to be parts of others, which no reader puts together")
    modules, feeds = MappingProxyType(graph.modules), tuple(graph.feeds)
    computation = computation_of(graph) if len(graph.own_nodes) <= MAX_COMPUTED else None
    name = "model" if graph.constants else ""
    branches = [Branch(name, "model", MappingProxyType(graph.tensors), modules, feeds=feeds, computation=computation)]
    main, reason = branches[0], "the graph's initializers"
    if graph.constants:
        # Exporters keep settings such as shapes in constants, but some their weights, too: what holds more values is taken.
        branches.append(Branch("constants", "other", MappingProxyType(graph.constants)))
        reason += "; the values of Constant nodes stand apart"
        if _nbytes(graph.constants) > _nbytes(graph.tensors):
            main, reason = branches[1], "the values of Constant nodes, which are more than the graph's initializers"
    nbytes = source.size + sum(protos.outside.values())
    return Checkpoint(source.path, NAME, "onnx", main, reason, tuple(branches), MappingProxyType(told), (), nbytes, tuple(remarks))


def _model(source: Source, protos: TensorProtos) -> tuple[dict[str, Any], dict[str, int], slice, list[slice]]:
    """What the model says of itself, its operator sets by domain, and where its graph and its functions lie."""
    from ckptaudit.errors import NotACheckpointError
    from ckptaudit.read.onnx_graph import opset_of
    from ckptaudit.read.onnx_tensors import entry, text
    from ckptaudit.read.protobuf import signed, spans

    told: dict[str, Any] = {}
    opsets: dict[str, int] = {}
    graphs: list[slice] = []
    functions: list[slice] = []
    for number, _, value in spans(source.data, 0, source.size, protos.corrupt):
        if isinstance(value, int):
            if number == 1:
                told["ir_version"] = signed(value)
        elif number in _WORDS:
            told[_WORDS[number]] = text(source.data, value, protos.corrupt)[:300].rstrip("\0")
        elif number == _OPSET and len(opsets) < _MAX_LISTED:
            domain, version = opset_of(source, value, protos)
            opsets[domain] = version
        elif number == _GRAPH:
            graphs.append(value)
        elif number == _FUNCTION:
            functions.append(value)
        elif number == _PROPERTY and len(told) < _MAX_LISTED:
            key, content = entry(source.data, value, protos.corrupt)
            told[key] = content
    if not graphs:
        raise NotACheckpointError(source.path, "an ONNX model without a graph")
    if len(graphs) > 1:
        raise protos.corrupt("with two graphs: readers disagree on what that means")
    return told, opsets, graphs[0], functions


def _nbytes(tensors: dict[str, StoredTensor]) -> int:
    return sum(tensor.storage.nbytes for tensor in tensors.values())
