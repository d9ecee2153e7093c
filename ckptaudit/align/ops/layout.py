"""The same elements under another shape: dimensions in another order, regrouped, ones dropped or inserted."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Permute", "Reshape", "Squeeze", "Unsqueeze", "inverse", "scrambles"]


@dataclass(frozen=True, slots=True)
class Permute(Op):
    """Reorder dimensions: dimension ``i`` of the result is dimension ``perm[i]`` of the input."""

    perm: tuple[int, ...]

    def spelled(self) -> str:
        """``transpose:3,2,0,1``."""
        return "transpose:" + ",".join(map(str, self.perm))

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes in the new order."""
        shape = self._one(shapes)
        if sorted(self.perm) != list(range(len(shape))):
            raise self._refuse(shape, f"it orders {len(self.perm)} dimensions")
        return tuple(shape[i] for i in self.perm)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The inverse permutation."""
        self.result_shape(*shapes)
        return (Permute(inverse(self.perm)),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].transpose(self.perm)


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """Read the same elements in the same order as another shape.

    Where the same sizes would only change places (ones aside), a permutation is meant, and reading the elements in order would
    scramble them: that is refused.
    """

    shape: tuple[int, ...]

    def spelled(self) -> str:
        """``reshape:50,1024,1,1``."""
        return "reshape:" + ",".join(map(str, self.shape))

    def result_shape(self, *shapes: Shape) -> Shape:
        """The new shape, if it has as many elements."""
        shape = self._one(shapes)
        if prod(shape) != prod(self.shape) or min(self.shape, default=0) < 0:
            raise self._refuse(shape, f"{prod(shape):,} elements are not {prod(self.shape):,}")
        if scrambles(shape, self.shape):
            raise self._refuse(shape, "the same sizes in another order: a permutation is meant")
        return self.shape

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The input's shape."""
        self.result_shape(*shapes)
        return (Reshape(shapes[0]),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Squeeze(Op):
    """Drop all dimensions of length 1."""

    def spelled(self) -> str:
        """``squeeze``."""
        return "squeeze"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes other than 1."""
        return tuple(n for n in self._one(shapes) if n != 1)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """Ones where they were."""
        return (Unsqueeze(tuple(i for i, n in enumerate(self._one(shapes)) if n == 1)),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.result_shape(arrays[0].shape))


@dataclass(frozen=True, slots=True)
class Unsqueeze(Op):
    """Insert dimensions of length 1 at these positions of the result."""

    dims: tuple[int, ...]

    def spelled(self) -> str:
        """``unsqueeze``."""
        return "unsqueeze"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's sizes with ones between."""
        shape = self._one(shapes)
        rank = len(shape) + len(self.dims)
        if len(set(self.dims)) != len(self.dims) or not all(0 <= dim < rank for dim in self.dims):
            raise self._refuse(shape, f"the result has {rank} dimensions, and {list(self.dims)} are not positions in it")
        sizes = iter(shape)
        return tuple(1 if dim in self.dims else next(sizes) for dim in range(rank))

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The input's shape, which may have ones of its own."""
        self.result_shape(*shapes)
        return (Reshape(shapes[0]),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.result_shape(arrays[0].shape))


def scrambles(shape: Shape, wanted: Shape) -> bool:
    """Whether the sizes other than 1 are the same in another order."""
    old, new = [n for n in shape if n != 1], [n for n in wanted if n != 1]
    return old != new and sorted(old) == sorted(new) and 0 not in old


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes ``perm``."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))
