"""A head for other classes: rows by a class map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, shown
from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Rows"]


@dataclass(frozen=True, slots=True)
class Rows(Op):
    """Take rows of a head by a class map: row ``i`` of the result is row ``take[i]`` of the input.

    ``-1`` keeps the row that the model was initialised with; then the model's own tensor is a second input.
    """

    take: tuple[int, ...]

    @property
    def needs_initial(self) -> bool:
        """Whether some rows keep the model's initial values."""
        return -1 in self.take

    def spelled(self) -> str:
        """``rows:0,1,-1``."""
        return "rows:" + ",".join(map(str, self.take))

    def result_shape(self, *shapes: Shape) -> Shape:
        """As many rows as the class map has entries."""
        shape, *initial = shapes or ((),)
        if not shape:
            raise self._refuse(shape, "a scalar has no rows")
        if not all(-1 <= row < shape[0] for row in self.take):
            raise self._refuse(shape, f"it has no row {next(row for row in self.take if not -1 <= row < shape[0])}")
        result = (len(self.take), *shape[1:])
        if initial and (len(initial) > 1 or initial[0] != result):
            raise self._refuse(shape, f"the model's initial tensor has the shape {shown(initial[0])}")
        return result

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The rows back in their places, if none was left out."""
        self.result_shape(*shapes)
        place = {row: i for i, row in reversed(list(enumerate(self.take)))}
        return (Rows(tuple(place[row] for row in range(shapes[0][0]))),) if place.keys() >= set(range(shapes[0][0])) else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        rows = numpy.array(self.take, dtype=numpy.int64)
        if not self.needs_initial:
            return arrays[0][rows]
        if len(arrays) < 2:
            raise PlanError(f"{self.take.count(-1)} rows keep the model's initial values, and these are not given")
        result = numpy.array(arrays[1], dtype=arrays[0].dtype, copy=True)
        result[rows >= 0] = arrays[0][rows[rows >= 0]]
        return result
