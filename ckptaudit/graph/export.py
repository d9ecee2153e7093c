"""The layer graph for other programs: networkx, GraphML, DOT, node-link JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.graph.layers import LayerGraph, module_paths
from ckptaudit.graph.names import parent
from ckptaudit.text import printable

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: LayerGraph) -> networkx.MultiDiGraph:
    """Build a directed graph of modules and layers.

    Nodes are module paths (``""`` is the whole network); each has ``kind`` (the layer's, or ``container``), ``parameters``
    and ``tensors`` (``"weight [64, 3, 7, 7] float32; …"``). Edges have ``relation``: ``contains`` (the module tree),
    ``precedes`` (definition order, layer to next layer) or ``feeds`` (dataflow). It is a multigraph: one layer may both
    precede and feed another.
    """
    import networkx

    result = networkx.MultiDiGraph(framework=graph.framework)
    layers = graph.by_path
    for path in ("", *module_paths(list(graph.tensors))):
        layer = layers.get(path)
        module = graph.modules.get(path)
        described = "; ".join(f"{role} {list(t.shape)} {t.dtype}" for role, t in layer.tensors.items()) if layer else ""
        result.add_node(
            printable(path),
            kind=layer.kind if layer else "container",
            type=module.type_name if module else "",
            parameters=sum(t.numel for t in layer.tensors.values() if not t.buffer) if layer else 0,
            tensors=printable(described),
        )
        if path:
            result.add_edge(printable(parent(path)), printable(path), relation="contains")
    for before, after in zip(graph.layers, graph.layers[1:], strict=False):
        result.add_edge(printable(before.path), printable(after.path), relation="precedes")
    for producer, consumer in graph.feeds:
        result.add_edge(printable(producer), printable(consumer), relation="feeds")
    return result


def to_graphml(graph: LayerGraph) -> str:
    """The graph as GraphML, the XML that yEd, Gephi and networkx read."""
    import networkx

    buffer = io.BytesIO()
    networkx.write_graphml_xml(to_networkx(graph), buffer)
    return buffer.getvalue().decode()


def to_dot(graph: LayerGraph) -> str:
    """The graph in Graphviz' language; *contains* edges are dotted, *feeds* edges bold."""
    style = {"contains": "dotted", "precedes": "solid", "feeds": "bold"}
    network = to_networkx(graph)
    lines = ["digraph checkpoint {", "  node [shape=box, fontname=monospace];"]
    for node, data in network.nodes(data=True):
        label = f"{node or '(network)'}\n{data['kind']}"
        lines.append(f"  {json.dumps(node)} [label={json.dumps(label)}];")
    for a, b, data in network.edges(data=True):
        lines.append(f"  {json.dumps(a)} -> {json.dumps(b)} [style={style[data['relation']]}];")
    return "\n".join([*lines, "}", ""])


def to_node_link(graph: LayerGraph) -> str:
    """The graph as networkx' node-link JSON."""
    import networkx

    return json.dumps(networkx.node_link_data(to_networkx(graph), edges="edges"), indent=1) + "\n"


#: File suffix → writer.
WRITERS: Mapping[str, Callable[[LayerGraph], str]] = MappingProxyType({".graphml": to_graphml, ".dot": to_dot, ".json": to_node_link})
