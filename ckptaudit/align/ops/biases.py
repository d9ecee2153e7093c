"""Two biases that are only ever added up, as recurrent layers of torch have them, and the one that others keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, shown, widened
from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Sum"]


@dataclass(frozen=True, slots=True)
class Sum(Op):
    """Add up the sources."""

    joins = True

    def spelled(self) -> str:
        """``sum``."""
        return "sum"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The shape that all of them have."""
        if not shapes:
            raise PlanError("sum takes at least one tensor")
        if other := [shape for shape in shapes if shape != shapes[0]]:
            raise self._refuse(shapes[0], f"another source has the shape {shown(other[0])}")
        return shapes[0]

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: what each of them was is lost."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        kind = widened(self, arrays[0])[1]
        total = sum(widened(self, array)[0] for array in arrays[1:]) + widened(self, arrays[0])[0]
        result: numpy.ndarray[Any, Any] = total.astype(kind)
        return result
