"""Several operations in a row: the shape they give, their result, and what undoes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ckptaudit.align.ops.base import Op, Shape
from ckptaudit.align.ops.rows import Rows
from ckptaudit.errors import PlanError

if TYPE_CHECKING:
    import numpy

__all__ = ["apply_ops", "reverse_ops", "shape_after"]

_T = TypeVar("_T")


def shape_after(ops: Sequence[Op], shapes: Sequence[Shape]) -> Shape:
    """Shape of the result of a chain for sources of these shapes.

    Raises
    ------
    PlanError
        An operation does not fit, or several tensors are left.
    """
    return _single(_trace(ops, shapes)[-1])


def apply_ops(
    ops: Sequence[Op], arrays: Sequence[numpy.ndarray[Any, Any]], initial: numpy.ndarray[Any, Any] | None = None
) -> numpy.ndarray[Any, Any]:
    """The result of a chain; the arrays are not changed, and the result may be a view of one.

    Parameters
    ----------
    initial:
        The model's own tensor, for :class:`Rows` that keep some of it.
    """
    current = list(arrays)
    for op in ops:
        if op.joins:
            current = [op.apply(*current)]
        elif isinstance(op, Rows) and op.needs_initial and initial is not None:
            current = [op.apply(array, initial) for array in current]
        else:
            current = [op.apply(array) for array in current]
    return _single(current)


def reverse_ops(ops: Sequence[Op], shapes: Sequence[Shape]) -> tuple[tuple[Op, ...], ...] | None:
    """For each source of these shapes the chain that gives it back from the result; None where that is lost."""
    trace = _trace(ops, shapes)
    _single(trace[-1])
    chains: list[tuple[Op, ...]] = [()]
    for op, before in zip(reversed(ops), reversed(trace[:-1]), strict=True):
        if op.joins:
            undone = op.reverse(*before)
            if undone is None:
                return None
            chains = [(*chains[0], step) for step in undone]
            continue
        for i, shape in enumerate(before):
            undone = op.reverse(shape)
            if undone is None:
                return None
            chains[i] = (*chains[i], *undone)
    return tuple(chains)


def _trace(ops: Sequence[Op], shapes: Sequence[Shape]) -> list[list[Shape]]:
    """Shapes before the first operation and behind each."""
    trace = [[tuple(shape) for shape in shapes]]
    for op in ops:
        trace.append([op.result_shape(*trace[-1])] if op.joins else [op.result_shape(shape) for shape in trace[-1]])
    return trace


def _single(values: list[_T]) -> _T:
    if len(values) != 1:
        raise PlanError(f"a step of {len(values)} sources has no operation that joins them")
    return values[0]
