"""Layers that became one: a BatchNorm folded into the convolution before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, shown, widened
from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Fuse"]


@dataclass(frozen=True, slots=True)
class Fuse(Op):
    """Fold a BatchNorm's statistics into the convolution before it.

    ``part="weight"`` takes (convolution weight, gamma, running_var); ``part="bias"`` takes (beta, gamma, running_mean, running_var)
    and, where the convolution has one, its bias. Output channels are dimension 0.
    """

    part: str
    eps: float

    joins = True

    def spelled(self) -> str:
        """``fuse:weight``."""
        return f"fuse:{self.part}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The shape of the first input."""
        if self.part not in ("weight", "bias"):
            raise PlanError(f"fuse gives a weight or a bias, not {self.part!r}")
        wanted = (3,) if self.part == "weight" else (4, 5)
        if len(shapes) not in wanted:
            raise PlanError(f"fuse of a {self.part} takes {' or '.join(map(str, wanted))} tensors, not {len(shapes)}")
        vectors = shapes[1:] if self.part == "weight" else shapes
        if not shapes[0] or any(shape != shapes[0][:1] for shape in vectors):
            raise self._refuse(shapes[0], f"the statistics have the shapes {', '.join(map(shown, vectors))}")
        return shapes[0]

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: several tensors became one."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        first, kind = widened(self, arrays[0])
        rest = [widened(self, array)[0] for array in arrays[1:]]
        if self.part == "weight":
            gamma, variance = rest
            scale = gamma / numpy.sqrt(variance + self.eps)
            return (first * scale.reshape(-1, *(1,) * (first.ndim - 1))).astype(kind)
        gamma, mean, variance, *bias = rest
        shift = (bias[0] - mean) if bias else -mean
        return (first + shift * (gamma / numpy.sqrt(variance + self.eps))).astype(kind)
