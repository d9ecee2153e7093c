"""A stem for another number of input channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, widened
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Inflate"]

_INFLATIONS = ("sum", "mean", "repeat")


@dataclass(frozen=True, slots=True)
class Inflate(Op):
    """Give a stem's kernel another number of input channels (its dimension 1).

    ``how``: ``sum`` to one channel, so that a grey image gives what it gave as three equal channels; ``mean``: every channel the
    mean of the old ones, scaled so that equal channels give the same sum; ``repeat``: the old channels in turn, scaled by old / new.
    """

    channels: int
    how: str

    def spelled(self) -> str:
        """``inflate:4:repeat``."""
        return f"inflate:{self.channels}:{self.how}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with another dimension 1."""
        shape = self._one(shapes)
        if self.how not in _INFLATIONS:
            raise self._refuse(shape, f"{self.how!r} is none of {', '.join(_INFLATIONS)}")
        if len(shape) < 3 or shape[1] < 1:
            raise self._refuse(shape, "it is no convolution's kernel")
        if self.channels < 1 or (self.how == "sum" and self.channels != 1):
            raise self._refuse(shape, f"{self.how} does not give {self.channels} channels")
        return (shape[0], self.channels, *shape[2:])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: sums lose their parts, scaling rounds."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        kernel, kind = widened(self, arrays[0])
        old = kernel.shape[1]
        if self.how == "repeat":
            values: numpy.ndarray[Any, Any] = numpy.take(kernel, numpy.arange(self.channels) % old, axis=1) * (old / self.channels)
        else:
            values = numpy.repeat(kernel.sum(axis=1, keepdims=True) / self.channels, self.channels, axis=1)
        return values.astype(kind)
