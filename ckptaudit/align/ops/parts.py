"""Fused tensors: take a part out, or join parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, shown
from ckptaudit.align.ops.layout import Reshape
from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Concat", "Slice", "Split"]


@dataclass(frozen=True, slots=True)
class Split(Op):
    """Take part ``index`` of ``of`` equal parts along ``dim``."""

    dim: int
    index: int
    of: int

    def spelled(self) -> str:
        """``split:0:1/3``."""
        return f"split:{self.dim}:{self.index}/{self.of}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with one size divided."""
        shape = self._one(shapes)
        if not 0 <= self.dim < len(shape):
            raise self._refuse(shape, f"it has no dimension {self.dim}")
        if not 0 <= self.index < self.of:
            raise self._refuse(shape, f"of {self.of} parts there is none with index {self.index}")
        if shape[self.dim] % self.of:
            raise self._refuse(shape, f"{shape[self.dim]} has no {self.of} equal parts")
        return (*shape[: self.dim], shape[self.dim] // self.of, *shape[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: the other parts are lost."""
        return (Reshape(shapes[0]),) if self.result_shape(*shapes) == shapes[0] else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        size = arrays[0].shape[self.dim] // self.of
        return arrays[0][(slice(None),) * self.dim + (slice(self.index * size, (self.index + 1) * size),)]


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Take what lies from ``start`` up to ``stop`` along ``dim``: a part where the parts are not equal."""

    dim: int
    start: int
    stop: int

    def spelled(self) -> str:
        """``slice:0:64-128``."""
        return f"slice:{self.dim}:{self.start}-{self.stop}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with one size cut."""
        shape = self._one(shapes)
        if not 0 <= self.dim < len(shape):
            raise self._refuse(shape, f"it has no dimension {self.dim}")
        if not 0 <= self.start <= self.stop <= shape[self.dim]:
            raise self._refuse(shape, f"dimension {self.dim} has no positions {self.start} to {self.stop}")
        return (*shape[: self.dim], self.stop - self.start, *shape[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: the rest is lost."""
        return (Reshape(shapes[0]),) if self.result_shape(*shapes) == shapes[0] else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0][(slice(None),) * self.dim + (slice(self.start, self.stop),)]


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Join the sources along ``dim``, in the order in which the pair lists them."""

    dim: int

    joins = True

    def spelled(self) -> str:
        """``concat:0``."""
        return f"concat:{self.dim}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes along ``dim`` added; all others must agree."""
        if not shapes:
            raise PlanError("concat takes at least one tensor")
        first = shapes[0]
        if not 0 <= self.dim < len(first):
            raise self._refuse(first, f"it has no dimension {self.dim}")
        for shape in shapes[1:]:
            if len(shape) != len(first) or any(a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != self.dim):
                raise self._refuse(first, f"another source has the shape {shown(shape)}")
        return (*first[: self.dim], sum(shape[self.dim] for shape in shapes), *first[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """One part for each source."""
        self.result_shape(*shapes)
        sizes = [shape[self.dim] for shape in shapes]
        if len(set(sizes)) == 1:
            return tuple(Split(self.dim, i, len(sizes)) for i in range(len(sizes)))
        ends = list(accumulate(sizes))
        return tuple(Slice(self.dim, end - size, end) for size, end in zip(sizes, ends, strict=True))

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        _same_dtype(self, arrays)
        return numpy.concatenate(arrays, self.dim)


def _same_dtype(op: Op, arrays: Sequence[numpy.ndarray[Any, Any]]) -> None:
    kinds = dict.fromkeys(str(array.dtype) for array in arrays)
    if len(kinds) > 1:
        raise PlanError(f"{op.spelled()} joins tensors of one dtype, not of {' and '.join(kinds)}")
