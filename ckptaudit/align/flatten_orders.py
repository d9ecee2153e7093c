"""The two orders in which a feature map may have been flattened before a dense layer: channels last or channels first."""

from __future__ import annotations

from ckptaudit.align.ops import Op
from ckptaudit.align.ops.layout import Permute, Reshape
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.heads import output_axis

_CHANNELS_LAST = frozenset({"keras", "tensorflow"})


def other_order(pair: Pair, source: LayerGraph, target: LayerGraph) -> tuple[Op, ...] | None:
    """The operations for the case that source and target flatten in different orders; None where ``pair`` is no plain matrix behind a map.

    Both keep height before width, so that only the number of channels matters.
    """
    if len(pair.sources) != 1:
        return None
    shape, wanted = source.tensors[pair.sources[0]].shape, target.tensors[pair.target].shape
    last = source.framework in _CHANNELS_LAST
    if len(shape) != 2 or last == (target.framework in _CHANNELS_LAST) or pair.ops != (Permute((1, 0)),):
        return None
    inputs, outputs = shape if last else shape[::-1]
    channels = channels_before(target, pair.target) or channels_before(source, pair.sources[0])
    if not channels or inputs <= channels or inputs % channels:
        return None
    places = inputs // channels
    if last:  # (places · channels, out) → (out, channels · places)
        return Reshape((places, channels, outputs)), Permute((2, 1, 0)), Reshape(wanted)
    return Reshape((outputs, channels, places)), Permute((2, 1, 0)), Reshape(wanted)


def channels_before(graph: LayerGraph, name: str) -> int | None:
    """Channels of the last convolution before the layer that owns a tensor; None where there is none, or another matrix in between."""
    channels = None
    for layer in graph.layers:
        if any(spec.name == name for spec in layer.tensors.values()):
            return channels
        weight = layer.tensors.get("pointwise_kernel") or layer.tensors.get("weight")
        if weight is None or len(weight.shape) < 2:
            continue
        if layer.kind == "conv" and len(weight.shape) > 2:
            axis = len(weight.shape) - 1 if graph.framework in _CHANNELS_LAST else output_axis(layer, graph.framework)
            channels = weight.shape[axis]
        elif layer.kind == "linear":
            channels = None
    return None
