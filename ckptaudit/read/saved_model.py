"""TensorFlow's SavedModel: which operators its graphs use. Nothing else of it is read; its variables are a checkpoint of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.keras_config import parse_config, read_model_config
from ckptaudit.read.protobuf import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptaudit.read.source import Source

NAME = "saved-model"

_MAX_NODES = 1 << 20
_MAX_NAME = 200
_META_GRAPHS, _GRAPH_DEF = 2, 2
_NODES, _LIBRARY = 1, 2
_FUNCTIONS, _FUNCTION_NODES = 1, 3
_OP = 2
#: Of keras_metadata.pb: the objects, and in each the JSON that describes it.
_KERAS_NODES, _KERAS_TEXT = 1, 5
_MAX_REMARKS = 20


def recognise(source: Source) -> bool:
    """Whether it is named and begins as TensorFlow writes it: schema version 1, then a graph."""
    return source.path.name == "saved_model.pb" or (source.head[:3] == b"\x08\x01\x12" and source.path.suffix == ".pb")


def operators(source: Source) -> dict[str, int]:
    """How often each operator is used, in the graphs and in the functions that they call.

    Raises
    ------
    CorruptCheckpointError
        A message is damaged, or has more nodes than any graph.
    """
    data = source.data
    counts: dict[str, int] = {}
    left = _MAX_NODES

    def bad(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(source.path, f"a SavedModel that {reason}")

    def parts(span: slice, wanted: int) -> Iterator[slice]:
        for number, _, value in spans(data, span.start, span.stop, bad):
            if number == wanted and isinstance(value, slice):
                yield value

    def count(nodes: Iterator[slice]) -> None:
        nonlocal left
        for node in nodes:
            left -= 1
            if left < 0:
                raise bad(f"has more than {_MAX_NODES:,} nodes")
            for op in parts(node, _OP):
                name = str(data[op.start : min(op.stop, op.start + _MAX_NAME)], "utf-8", "surrogateescape")
                counts[name] = counts.get(name, 0) + 1

    for meta in parts(slice(0, source.size), _META_GRAPHS):
        for graph in parts(meta, _GRAPH_DEF):
            count(parts(graph, _NODES))
            for library in parts(graph, _LIBRARY):
                for function in parts(library, _FUNCTIONS):
                    count(parts(function, _FUNCTION_NODES))
    if not counts:
        raise bad("holds no graph")
    return counts


def keras_remarks(source: Source) -> list[str]:
    """What rebuilding the layers that ``keras_metadata.pb`` describes would run or import, one line each.

    Raises
    ------
    CorruptCheckpointError
        The message is damaged.
    """

    def bad(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(source.path, f"a keras_metadata.pb that {reason}")

    found: dict[str, None] = {}
    for number, _, node in spans(source.data, 0, source.size, bad):
        if number != _KERAS_NODES or not isinstance(node, slice):
            continue
        for part, _, text in spans(source.data, node.start, node.stop, bad):
            if part == _KERAS_TEXT and isinstance(text, slice) and len(found) < _MAX_REMARKS:
                config = parse_config(source.data[text], "a layer's description", lambda words: found.update({words: None}))
                found.update(dict.fromkeys(read_model_config(config or {}).remarks))
    return list(found)
