"""The layers of an export in the order in which they are computed, with names where a node still tells what a tensor's name does not.

Exporters give what they fold a number for a name (``onnx::Conv_193``, ``const_fold_opt__322``) and often leave the module in the name of
the node that uses it (``/layer1/layer1.0/conv1/Conv``, ``MobilenetV2/expanded_conv/depthwise/depthwise``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.align.lost_norms import doubting_folded_norms
from ckptaudit.align.names_first import align
from ckptaudit.align.pairs import Alignment
from ckptaudit.graph import LayerGraph, TensorSpec, is_float
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import parent
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import replace

if TYPE_CHECKING:
    from ckptaudit.align.by_topology.units import Unit, Units
    from ckptaudit.graph.computation import Use

#: TensorFlow's name of a variable's value, at the end of that of the variable.
_FIRST_OUTPUT = compiled_when_used(r":0\Z")
#: What TF-slim calls them.
_SLIM = {"weight": "weights", "bias": "biases"}


def named_by_nodes(graph: LayerGraph) -> LayerGraph:
    """The same layers in the order of computation, shapes as torch has them; a graph that is no export's as it is."""
    return _renamed(graph, as_used=True)[0] if graph.is_export else graph


def values_by_node_names(graph: LayerGraph, read: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Values of every tensor of numbers with a point, by the names and in the shapes that :func:`named_by_nodes` gives."""
    named, own = _renamed(graph, as_used=True)
    units = _units(graph)
    turned = {use.name for unit in (*units.strong, *units.weak) for _, use in _uses(unit) if use.turned}
    for name, spec in named.tensors.items():
        if is_float(spec.dtype):
            values = read(own[name])
            yield name, (values.T if own[name] in turned else values).reshape(spec.shape)


def align_by_node_names(source: LayerGraph, target: LayerGraph) -> Alignment:
    """Align by the names that nodes tell, where what both compute cannot be laid beside each other; pairs are of each side's own names."""
    if not (source.is_export or target.is_export):
        return align(source, target)
    (here, old), (there, new) = (
        _renamed(side, as_used=False) if side.is_export else (side, {name: name for name in side.tensors}) for side in (source, target)
    )
    found = align(here, there)
    if source.is_export:
        found = doubting_folded_norms(found, here, there)

    def back(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(old[name] for name in names)

    pairs = {
        new[name]: replace(
            pair,
            target=new[name],
            sources=back(pair.sources),
            runner_up=None if pair.runner_up is None else back(pair.runner_up),
        )
        for name, pair in found.pairs.items()
    }
    mismatched = {new[name]: old[other] for name, other in found.mismatched.items()}
    wrappers = {word: back(names) for word, names in found.wrappers.items()}
    renamed = replace(
        found,
        mismatched=MappingProxyType(mismatched),
        wrappers=MappingProxyType(wrappers),
        structural=tuple(name for name, pair in pairs.items() if pair.sources != (name,)),
    )
    return renamed.with_pairs(pairs, source, target)


def _renamed(graph: LayerGraph, *, as_used: bool) -> tuple[LayerGraph, dict[str, str]]:
    """The graph under the names that nodes tell, and its own name for each; ``as_used`` gives shapes as torch would keep them."""
    units = _units(graph)
    in_order = sorted((*units.strong, *units.weak), key=lambda unit: unit.tail)
    modules = set(module_paths([name for name in graph.tensors if parent(name)]))
    specs: dict[str, TensorSpec] = {}
    renamed: dict[str, str] = {}
    for unit in in_order:
        for role, use in _uses(unit):
            spec = graph.tensors.get(use.name)
            if spec is None or use.name in renamed:
                continue
            name = _FIRST_OUTPUT.sub("", use.name) if parent(use.name) else _name(unit, role, modules)
            if name in specs or (name != use.name and name in graph.tensors):
                name = use.name
            renamed[use.name] = name
            # A bias is kept as it is broadcast, a matrix of a linear layer sometimes turned.
            shape = spec.shape if not as_used else use.shape if role in ("weight", "parameter") else (use.numel,)
            specs[name] = replace(spec, name=name, shape=shape)
    for name, spec in graph.tensors.items():
        if name not in renamed and name not in specs and not spec.buffer:
            specs[name] = spec
            renamed[name] = name
    return LayerGraph.from_tensors(specs.values(), graph.framework), {new: old for old, new in renamed.items()}


def _units(graph: LayerGraph) -> Units:
    from ckptaudit.align.by_topology.units import Units, units_of  # every audit asks for names, and few of an export

    return units_of(graph.computation) if graph.computation is not None else Units((), ())


def _uses(unit: Unit) -> Iterator[tuple[str, Use]]:
    yield from unit.operation.tensors.items()
    if unit.bias is not None and unit.bias not in unit.operation.tensors.values():
        yield "bias", unit.bias
    if unit.norm is not None:
        yield from ((f"norm.{role}", use) for role, use in unit.norm.tensors.items())


def _name(unit: Unit, role: str, modules: Collection[str]) -> str:
    node = unit.operation.path
    scope = _torch_scope(node) if node.startswith("/") else _module(node, modules) if "/" in node else node
    if not node.startswith("/") and "/" in node:
        depthwise = role == "weight" and len(unit.operation.tensors["weight"].shape) > 2 and unit.operation.tensors["weight"].shape[1] == 1
        return f"{scope}/{'depthwise_' if depthwise else ''}{_SLIM.get(role, role)}"
    return f"{scope}.{role}"


def _torch_scope(node: str) -> str:
    """``layer1.0.conv1`` for ``/layer1/layer1.0/conv1/Conv``: within a Sequential the outer name is said again."""
    kept: list[str] = []
    for segment in node.strip("/").split("/")[:-1]:
        if kept and segment.startswith(f"{kept[-1]}."):
            kept[-1] = segment
        else:
            kept.append(segment)
    return ".".join(kept) or node.strip("/")


def _module(node: str, modules: Collection[str]) -> str:
    """The innermost module around a node that holds other tensors, too; else what the node lies in."""
    path = parent(node)
    while path and path not in modules:
        path = parent(path)
    return path or parent(node)
