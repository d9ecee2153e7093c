"""What every operation can do, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Op", "Param", "Shape", "shown", "widened"]

Shape = tuple[int, ...]
Param = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on one tensor; those that join (:attr:`joins`) take all sources of the step at once."""

    joins = False

    @property
    def name(self) -> str:
        """The operation's name in a plan: the class name in lower case."""
        return type(self).__name__.lower()

    @property
    def params(self) -> Mapping[str, Param]:
        """Parameters by name, in the order in which the class declares them."""
        declared: tuple[str, ...] = self.__match_args__
        return {name: getattr(self, name) for name in declared}

    def spelled(self) -> str:
        """The operation in the vocabulary of the remapping benchmark."""
        raise NotImplementedError

    def result_shape(self, *shapes: Shape) -> Shape:
        """Shape of the result for inputs of these shapes.

        Raises
        ------
        PlanError
            The operation does not fit them; the message says what was given.
        """
        raise NotImplementedError

    def apply(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        """The result, a view where that is possible; the arrays are not changed.

        Raises
        ------
        PlanError
            As :meth:`result_shape`.
        """
        self.result_shape(*(array.shape for array in arrays))
        return self._compute(*arrays)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """For each input of these shapes the operation that gives it back from the result; None where that is lost."""
        raise NotImplementedError

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        raise NotImplementedError

    def _one(self, shapes: tuple[Shape, ...]) -> Shape:
        if len(shapes) != 1:
            raise PlanError(f"{self.name} takes one tensor, not {len(shapes)}")
        return shapes[0]

    def _refuse(self, shape: Shape, reason: str) -> PlanError:
        return PlanError(f"{self.spelled()} does not fit a tensor of shape {shown(shape)}: {reason}")


def shown(shape: Shape) -> str:
    """A shape in a message: ``64×3×7×7``."""
    return "×".join(map(str, shape)) or "()"


def widened(op: Op, array: numpy.ndarray[Any, Any]) -> tuple[numpy.ndarray[Any, Any], numpy.dtype[Any]]:
    """The values in a type in which arithmetic is exact enough, and the type that they had."""
    import numpy

    kind = array.dtype
    if kind.kind == "f":
        return (array if kind.itemsize >= 4 else array.astype(numpy.float32)), kind
    if kind.name.startswith(("bfloat", "float")):  # of ml_dtypes, which numpy counts among no kind of its own
        return array.astype(numpy.float32), kind
    raise PlanError(f"{op.spelled()} computes with real numbers, and the tensor holds {kind}")
