"""What a Keras model computes, as far as its layers and the dataflow between them tell: one operation for each layer with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ckptaudit.graph import Layer, LayerGraph, TensorSpec
from ckptaudit.graph import computation as words
from ckptaudit.graph.computation import INPUT, Computation, Operation, Use
from ckptaudit.records import replace

_KINDS = {
    "conv": words.CONV,
    "depthwise_conv": words.CONV,
    "linear": words.LINEAR,
    "batch_norm": words.BATCH_NORM,
    "norm": words.NORM,
    "embedding": words.EMBEDDING,
}
_SETTINGS = {"stride": "stride", "dilation": "dilation", "groups": "groups", "eps": "eps", "epsilon": "eps"}


def computation_of_layers(graph: LayerGraph) -> Computation | None:
    """The computation of a Keras graph; None where its dataflow is not known, or goes round in circles."""
    if graph.framework != "keras" or not graph.feeds:
        return None
    before: dict[str, list[str]] = {layer.path: [] for layer in graph.layers}
    for producer, consumer in graph.feeds:
        if producer in before and consumer in before:
            before[consumer].append(producer)
    order = _in_order(before)
    if order is None:
        return None
    operations: list[Operation] = []
    last: dict[str, int] = {}
    for path in order:
        operands: tuple[tuple[int, ...], ...] = tuple((last[producer],) for producer in before[path]) or ((INPUT,),)
        for number, operation in enumerate(_operations(graph.by_path[path], graph, operands)):
            operations.append(operation if not number else replace(operation, operands=((len(operations) - 1,),)))
        last[path] = len(operations) - 1
    feeding = {producer for producers in before.values() for producer in producers}
    return Computation(tuple(operations), tuple((last[path],) for path in order if path not in feeding))


def _in_order(before: Mapping[str, list[str]]) -> list[str] | None:
    """Each path behind those that feed it."""
    waiting = {path: len(producers) for path, producers in before.items()}
    after: dict[str, list[str]] = {}
    for path, producers in before.items():
        for producer in producers:
            after.setdefault(producer, []).append(path)
    ready = [path for path, count in waiting.items() if not count]
    order: list[str] = []
    while ready:
        path = ready.pop(0)
        order.append(path)
        for consumer in after.get(path, ()):
            waiting[consumer] -= 1
            if not waiting[consumer]:
                ready.append(consumer)
    return order if len(order) == len(before) else None


def _operations(layer: Layer, graph: LayerGraph, operands: tuple[tuple[int, ...], ...]) -> Iterator[Operation]:
    """A layer's one operation; of a separable convolution the first, its second follows it."""
    module = graph.modules.get(layer.path)
    attributes = module.attributes if module is not None else {}
    settings = {_SETTINGS[key]: value for key, value in attributes.items() if key in _SETTINGS}
    tensors = dict(layer.tensors)
    if "depthwise_kernel" in tensors and "pointwise_kernel" in tensors:
        first = {"weight": _kernel(tensors.pop("depthwise_kernel"), depthwise=True)}
        alone = {**settings, "groups": first["weight"].shape[0]}
        yield Operation(words.CONV, layer.path, operands, MappingProxyType(first), MappingProxyType(alone))
        tensors["weight"] = tensors.pop("pointwise_kernel")
        settings = {}
    kind = words.CONV_TRANSPOSE if module is not None and "Transpose" in module.type_name else _KINDS.get(layer.kind, words.PARAMETER)
    uses = {}
    for role, spec in tensors.items():
        if role == "weight" and kind in (words.CONV, words.CONV_TRANSPOSE):
            uses[role] = _kernel(spec, depthwise=layer.kind == "depthwise_conv")
        elif role == "weight" and kind == words.LINEAR and len(spec.shape) == 2:
            uses[role] = Use(spec.name, spec.shape[::-1], turned=True)
        else:
            uses[role] = Use(spec.name, spec.shape)
    if layer.kind == "depthwise_conv" and "weight" in tensors:
        settings["groups"] = tensors["weight"].shape[-2]
    yield Operation(kind, layer.path, operands, MappingProxyType(uses), MappingProxyType(settings))


def _kernel(spec: TensorSpec, *, depthwise: bool) -> Use:
    """A kernel (…, in, out) as (out, in, …); of a depthwise one (…, channels, filters of each) as (channels · filters, 1, …).

    The kernel of a transposed convolution is (…, out, in), and becomes (in, out, …).
    """
    rank = len(spec.shape)
    sides = range(2, rank)
    if depthwise:
        channels, filters = spec.shape[-2:]
        # With several filters for each channel more than the axes would change.
        return Use(spec.name, (channels * filters, 1, *spec.shape[:-2]), whole=filters == 1, stored=(*sides, 0, 1))
    return Use(spec.name, (spec.shape[-1], spec.shape[-2], *spec.shape[:-2]), stored=(*sides, 1, 0))
