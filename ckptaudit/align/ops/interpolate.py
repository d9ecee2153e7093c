"""Tables of positions for another grid."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops.base import Op, Shape, widened
from ckptaudit.align.ops.layout import Reshape
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Interpolate"]


@dataclass(frozen=True, slots=True)
class Interpolate(Op):
    """Resample a table of grid positions to another grid.

    The table's second last dimension counts positions, row by row, with ``prefix`` other entries before them (class and register
    tokens) and ``suffix`` behind; its last dimension is what stands at a position. This reads position embeddings,
    ``(1, 1 + 14·14, 768)``, and tables of relative positions, ``((2·7-1)·(2·7-1), 12)`` with the grid ``(13, 13)``.

    Attributes
    ----------
    old, new:
        Height and width of the grid.
    prefix, suffix:
        Entries that are no grid positions; they stay.
    mode:
        ``bicubic`` or ``bilinear``, as ``torch.nn.functional.interpolate`` with ``align_corners=False`` computes it.
    antialias:
        As there; matters only where the new grid is smaller, and for ``bicubic`` (another kernel).
    """

    old: tuple[int, ...]
    new: tuple[int, ...]
    prefix: int = 0
    suffix: int = 0
    mode: str = "bicubic"
    antialias: bool = False

    def spelled(self) -> str:
        """``interpolate:14x14-16x16:bicubic``."""
        return f"interpolate:{'x'.join(map(str, self.old))}-{'x'.join(map(str, self.new))}:{self.mode}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with another number of positions."""
        shape = self._one(shapes)
        if len(self.old) != 2 or len(self.new) != 2 or min(*self.old, *self.new) < 1 or min(self.prefix, self.suffix) < 0:
            raise self._refuse(shape, "a grid has a height and a width")
        if self.mode not in ("bicubic", "bilinear"):
            raise self._refuse(shape, f"the mode {self.mode!r} is neither bicubic nor bilinear")
        others = self.prefix + self.suffix
        if len(shape) < 2 or shape[-2] != others + prod(self.old):
            raise self._refuse(shape, f"it does not hold {others} + {prod(self.old)} positions")
        return (*shape[:-2], others + prod(self.new), shape[-1])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None, but for equal grids: resampling loses detail."""
        return (Reshape(shapes[0]),) if self.result_shape(*shapes) == shapes[0] and self.old == self.new and not self.antialias else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        from ckptaudit.align.ops.resampling import resampling_matrix

        table, kind = widened(self, arrays[0])
        end = table.shape[-2] - self.suffix
        grid = table[..., self.prefix : end, :].reshape(*table.shape[:-2], *self.old, table.shape[-1])
        rows, columns = (  # (H, h) and (W, w), for (…, h, w, c)
            resampling_matrix(old, new, self.mode, self.antialias).astype(table.dtype) for old, new in zip(self.old, self.new, strict=True)
        )
        resampled = numpy.einsum("Ww,...hwc->...hWc", columns, numpy.einsum("Hh,...hwc->...Hwc", rows, grid))
        positions = resampled.reshape(*table.shape[:-2], prod(self.new), table.shape[-1])
        result: numpy.ndarray[Any, Any] = numpy.concatenate([table[..., : self.prefix, :], positions, table[..., end:, :]], axis=-2)
        return result.astype(kind)
