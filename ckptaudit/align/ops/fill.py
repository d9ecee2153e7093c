"""One number throughout: a second bias where the first holds everything, a BatchNorm that was folded and is to change nothing any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Fill"]


@dataclass(frozen=True, slots=True)
class Fill(Op):
    """A tensor of the input's shape that holds ``value`` everywhere."""

    value: float

    def spelled(self) -> str:
        """``fill:1``."""
        return f"fill:{self.value:.9g}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return self._one(shapes)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: the values are lost."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        return numpy.full_like(arrays[0], self.value)
