"""Resampling of one axis as a matrix, with the weights that torch's ``interpolate`` uses."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy

#: torch's cubic kernel; with antialias it takes Pillow's.
_CUBIC, _CUBIC_ANTIALIASED = -0.75, -0.5


def resampling_matrix(old: int, new: int, mode: str, antialias: bool) -> numpy.ndarray[Any, Any]:
    """The matrix ``(new, old)`` that resamples ``old`` values to ``new``; pixel centres are halves, edges repeat.

    Parameters
    ----------
    mode:
        ``bicubic`` or ``bilinear``.
    antialias:
        Widen the kernel when there are fewer new values than old.
    """
    import numpy

    matrix = numpy.zeros((new, old))
    scale = old / new
    for i in range(new):
        for position, weight in (_antialiased if antialias else _plain)(i, scale, old, mode):
            matrix[i, position] += weight
    return matrix


def _plain(i: int, scale: float, old: int, mode: str) -> list[tuple[int, float]]:
    centre = scale * (i + 0.5) - 0.5
    if mode == "bilinear":
        centre = max(centre, 0.0)
    first = floor(centre)
    kernel, reach = (_triangle, 1) if mode == "bilinear" else (_cubic(_CUBIC), 2)
    positions = range(first - reach + 1, first + reach + 1)
    return [(min(max(j, 0), old - 1), kernel(j - centre)) for j in positions]


def _antialiased(i: int, scale: float, old: int, mode: str) -> list[tuple[int, float]]:
    kernel, reach = (_triangle, 1) if mode == "bilinear" else (_cubic(_CUBIC_ANTIALIASED), 2)
    width = max(scale, 1.0)
    centre = scale * (i + 0.5)
    first = max(int(centre - reach * width + 0.5), 0)
    last = min(int(centre + reach * width + 0.5), old)
    weights = [kernel((j - centre + 0.5) / width) for j in range(first, last)]
    total = sum(weights)
    return [(j, weight / total) for j, weight in zip(range(first, last), weights, strict=True)]


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _cubic(a: float) -> Callable[[float], float]:
    def kernel(x: float) -> float:
        x = abs(x)
        if x < 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0

    return kernel
