"""A dense layer on one side, a convolution over the whole map on the other, and another layout: its columns change places, too.

``(H·W·C, out)`` of a channels-last library is ``(out, C, H, W)`` of the other by way of ``(H, W, C, out)``; transposing the matrix and
reading it as a kernel would scramble it, though every shape fits.
"""

from __future__ import annotations

from ckptaudit.align.ops import Op, Permute, Reshape
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.records import replace

__all__ = ["with_flattened_order"]

_CHANNELS_LAST = frozenset({"keras", "tensorflow"})
EVIDENCE = "flattened as height × width × channels"
_DOUBT = "flattened in an order that names and shapes do not show"


def with_flattened_order(pair: Pair, source: LayerGraph, target: LayerGraph) -> Pair:
    """The same pair with the operations that the flattening asks for; ambiguous where the libraries are not known."""
    ops = _matrix_to_kernel(pair, target) or _kernel_to_matrix(pair, source)
    if ops is None:
        return pair
    dense = source if len(source.tensors[pair.sources[0]].shape) == 2 else target
    if dense.framework in _CHANNELS_LAST:
        return replace(pair, ops=ops, evidence=(*pair.evidence, EVIDENCE))
    return replace(pair, grade="ambiguous", confidence=min(pair.confidence, 0.5), evidence=(*pair.evidence, _DOUBT))


def _matrix_to_kernel(pair: Pair, target: LayerGraph) -> tuple[Op, ...] | None:
    shape = target.tensors[pair.target].shape
    if len(shape) != 4 or shape[2] * shape[3] == 1 or shape[1] == 1 or pair.ops != (Permute((1, 0)), Reshape(shape)):
        return None
    outputs, channels, height, width = shape
    return (Reshape((height, width, channels, outputs)), Permute((3, 2, 0, 1)))


def _kernel_to_matrix(pair: Pair, source: LayerGraph) -> tuple[Op, ...] | None:
    shape = source.tensors[pair.sources[0]].shape
    if len(shape) != 4 or shape[2] * shape[3] == 1 or shape[1] == 1:
        return None
    outputs, channels, height, width = shape
    columns = channels * height * width
    if pair.ops != (Reshape((outputs, columns)), Permute((1, 0))):
        return None
    return (Permute((2, 3, 1, 0)), Reshape((columns, outputs)))
