"""What stays of a tensor when names, layouts and libraries change."""

from __future__ import annotations

from collections.abc import Collection

from ckptaudit.graph import TensorSpec, is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf

#: Sizes in ascending order, ones left out: the same for (out, in, h, w) and (h, w, in, out), for a 1 × 1 convolution and a linear layer.
#: Over the shipped catalogue these alone tell apart all but 17 of the pairs of architectures that differ in any shape.
Signature = tuple[int, ...]


def signature(shape: tuple[int, ...]) -> Signature:
    """The signature of one shape."""
    return tuple(sorted([size for size in shape if size != 1]))


def pieces(sequence: Collection[Signature]) -> list[tuple[Signature, ...]]:
    """For each of a network's signatures what another library may hold instead.

    A matrix three times as long as wide may be three square ones: queries, keys and values; so may the vectors of its length.
    """
    fused = {one[1] for one in sequence if len(one) == 2 and one[1] == 3 * one[0]}
    return [_pieces(one, fused) for one in sequence]


def _pieces(one: Signature, fused: Collection[int]) -> tuple[Signature, ...]:
    if len(one) == 2 and one[1] == 3 * one[0]:
        return ((one[0], one[0]),) * 3
    return ((one[0] // 3,),) * 3 if len(one) == 1 and one[0] in fused else (one,)


def is_kernel(spec: TensorSpec) -> bool:
    """Whether a tensor is more than a vector, by its signature."""
    return len(signature(spec.shape)) > 1


def counts(spec: TensorSpec) -> bool:
    """Whether a tensor says something of the architecture: counters and tables that follow from the configuration do not."""
    return bool(spec.shape) and is_float(spec.dtype) and leaf(spec.name) not in DERIVED_BUFFERS
