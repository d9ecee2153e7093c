"""A dense layer behind a flattened map, decided where both sides tell in which order they flatten."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.align.flatten_orders import other_order
from ckptaudit.align.flattened import EVIDENCE as KERNEL
from ckptaudit.align.ops import Op
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import is_under, parent
from ckptaudit.records import replace

#: What moves axes, or may: behind one of these the order is not told.
_MOVING = frozenset({"Permute", "Reshape", "TimeDistributed", "Lambda", "RepeatVector"})

_POOLING = frozenset({"GlobalAveragePooling2D", "GlobalMaxPooling2D"})


def open_flattenings(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> dict[str, Pair]:
    """Ambiguous pairs for which the two orders are all that is open, by the model's name."""
    return {
        name: pair
        for name, pair in alignment.pairs.items()
        if not pair.sure and pair.runner_up is None and (KERNEL in pair.evidence or other_order(pair, source, target) is not None)
    }


def decided_flattenings(
    alignment: Alignment, source: LayerGraph, target: LayerGraph, orders: tuple[Mapping[str, str], Mapping[str, str]]
) -> Alignment:
    """The same alignment; pairs are decided for whose dense layers ``orders`` tell the file's and the model's order, by path."""
    decided = {}
    for name, pair in open_flattenings(alignment, source, target).items():
        ops: tuple[Op, ...] | None
        here, there = orders[0].get(parent(pair.sources[0])), orders[1].get(parent(name))
        if KERNEL in pair.evidence:
            # A convolution over the whole map on one side: only the dense one flattens, and the steps say which way.
            if "channels last" not in (here, there):
                continue
            ops, evidence = pair.ops, "its model flattens channels last, as the steps say"
        elif "pooled" in (here, there):
            ops, evidence = pair.ops, "no map is flattened before it: height and width were averaged away"
        elif here is None or there is None:
            continue
        else:
            ops = pair.ops if here == there else other_order(pair, source, target)
            evidence = f"the file's model flattens {here}, the other {there}"
        if ops is not None:
            decided[name] = replace(pair, ops=ops, grade="decided", confidence=0.99, evidence=(*pair.evidence[:-1], evidence))
    pairs = {name: decided.get(name, pair) for name, pair in alignment.pairs.items()}
    return replace(alignment, pairs=MappingProxyType(pairs)) if decided else alignment


def keras_orders(graph: LayerGraph, paths: list[str]) -> dict[str, str]:
    """The order before each dense layer of a Keras graph that tells its layers: channels last where nothing moves axes on the way.

    ``pooled`` where height and width are averaged away and no layer flattens.
    """
    order = {path: position for position, path in enumerate(graph.modules)}
    weights = [layer.path for layer in graph.layers]
    found = {}
    for path in paths:
        if graph.framework != "keras" or path not in order or path not in weights:
            continue
        before = [other for other in weights[: weights.index(path)] if other in order and order[other] < order[path]]
        start = max((order[other] for other in before), default=-1)
        between = [module for other, module in graph.modules.items() if start < order[other] < order[path] and not is_under(other, path)]
        kinds = {module.type_name for module in between}
        first = any(module.attributes.get("data_format") == "channels_first" for module in graph.modules.values())
        if kinds & _POOLING and not kinds & {"Flatten", *_MOVING}:
            found[path] = "pooled"
        elif "Flatten" in kinds and not kinds & _MOVING and not first:
            found[path] = "channels last"
    return found
