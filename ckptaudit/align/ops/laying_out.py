"""A large transposed array laid out anew in C order, several times as fast as numpy does it by itself."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

#: Bytes from which on it is done box by box; a smaller array stays in the cache as it is.
_LARGE = 1 << 19
#: Elements that lie side by side in a box, if there are so many, before and after; and those of a whole box, which stays in the cache with
#: its copy. Where there are few, nothing is won.
_RUN, _FEW, _BOX = 128, 32, 128 * 128
#: Elements between the rows of the buffer. Rows at powers of two would share a few lines of the cache, and drive each other out.
_GAP = 16


def dense(array: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """The array itself where it is in C order, and otherwise a copy that is."""
    import numpy

    if array.flags.c_contiguous:
        return array
    result = numpy.empty(array.shape, array.dtype)
    lay_out(array, result)
    return result


def lay_out(array: numpy.ndarray[Any, Any], result: numpy.ndarray[Any, Any]) -> None:
    """Copy an array into another of its shape and dtype that is in C order.

    A large one is copied box by box. A box holds long runs of elements that lie side by side in the array, and long runs that shall lie
    side by side in the copy. It is copied run by run into a buffer that stays in the cache, and transposed on the way out of it, so that
    memory is read and written by whole cache lines.
    """
    given, wanted = array.squeeze(), result.squeeze()
    if array.dtype.isbuiltin == 2:  # numpy has bfloat16 and float8 by extension only, and copies them number by number
        bits = f"u{array.dtype.itemsize}"
        given, wanted = given.view(bits), wanted.view(bits)
    box = _Box.of(given) if given.nbytes >= _LARGE and not given.flags.c_contiguous else None
    if box is None:
        wanted[...] = given
    else:
        _copy(given, wanted, box)


@dataclass(frozen=True, slots=True)
class _Box:
    """How many elements of each axis are copied at once.

    Attributes
    ----------
    sizes:
        One per axis of the array.
    rows, columns:
        Axes that lie side by side in the result, in its order; and those that do in the array, in that one's.
    """

    sizes: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, array: numpy.ndarray[Any, Any]) -> _Box | None:
        """The box to copy an array by; None where its own runs are those of the result, or either's are short."""
        last = array.ndim - 1
        sizes = [1] * array.ndim
        by_stride = sorted(range(array.ndim), key=lambda axis: abs(array.strides[axis]))
        columns = _run(array.shape, sizes, by_stride[: by_stride.index(last)])
        if not columns:
            return None
        rows = _run(array.shape, sizes, [axis for axis in reversed(range(array.ndim)) if axis not in columns])
        if min(prod(sizes[axis] for axis in axes) for axes in (rows, columns)) < _FEW:
            return None
        for axis in (columns[-1], rows[-1]):
            sizes[axis] = min(array.shape[axis], sizes[axis] * max(1, _BOX // prod(sizes)))
        return cls(tuple(sizes), tuple(sorted(rows)), tuple(reversed(columns)))


def _run(shape: tuple[int, ...], sizes: list[int], axes: list[int]) -> list[int]:
    """The first of these axes that make a run, whose sizes are set."""
    taken: list[int] = []
    for axis in axes:
        length = prod(sizes[axis] for axis in taken)
        if length >= _RUN:
            break
        taken.append(axis)
        sizes[axis] = min(shape[axis], -(-_RUN // length))
    return taken


def _copy(given: numpy.ndarray[Any, Any], wanted: numpy.ndarray[Any, Any], box: _Box) -> None:
    import numpy

    order = (*box.rows, *box.columns)
    rest = [axis for axis in range(given.ndim) if axis not in order]
    given, wanted = given.transpose(*rest, *order), wanted.transpose(*rest, *order)
    sizes = [*(1 for _ in rest), *(box.sizes[axis] for axis in order)]
    height = len(rest) + len(box.rows)
    pitch = prod(sizes[height:]) + _GAP
    buffer = numpy.empty((prod(sizes[:height]), pitch), given.dtype)
    views: dict[tuple[int, ...], numpy.ndarray[Any, Any]] = {}
    for corner in product(*(range(0, length, size) for length, size in zip(given.shape, sizes, strict=True))):
        at = tuple(slice(start, start + size) for start, size in zip(corner, sizes, strict=True))
        piece = given[at]
        view = views.get(piece.shape)
        if view is None:  # at the edges boxes are smaller
            strides = (*_strides(piece.shape[:height], pitch * given.itemsize), *_strides(piece.shape[height:], given.itemsize))
            view = views[piece.shape] = numpy.ndarray(piece.shape, given.dtype, buffer.data, 0, strides)
        numpy.copyto(view, piece)
        numpy.copyto(wanted[at], view)


def _strides(shape: tuple[int, ...], unit: int) -> list[int]:
    return [unit * prod(shape[axis + 1 :]) for axis in range(len(shape))]
