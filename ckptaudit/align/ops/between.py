"""Which operations lead from one stored shape to another."""

from __future__ import annotations

from math import prod

from ckptaudit.align.ops.base import Op
from ckptaudit.align.ops.layout import Permute, Reshape, Squeeze, Unsqueeze, inverse, scrambles

__all__ = ["moved_dim", "ops_between", "permuted"]


def permuted(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    """Shape after a permutation; the empty permutation changes nothing."""
    return tuple(shape[i] for i in perm) if perm else shape


def moved_dim(dim: int, perm: tuple[int, ...]) -> int:
    """Dimension of the stored tensor that ``dim`` of the permuted one was."""
    return perm[dim] if perm else dim


def ops_between(
    source: tuple[int, ...], to_canonical: tuple[int, ...], target: tuple[int, ...], from_target: tuple[int, ...]
) -> tuple[Op, ...]:
    """Operations from a stored shape to another, by way of the canonical layout.

    Parameters
    ----------
    source, target:
        Shapes as stored on both sides.
    to_canonical, from_target:
        Permutations that bring the stored tensor of each side into the canonical layout; empty for none.
    """
    back = inverse(from_target)
    canonical, wanted = permuted(source, to_canonical), permuted(target, from_target)
    if canonical == wanted and len(to_canonical) == len(back):
        return _permute(permuted(to_canonical, back))
    if canonical == wanted:
        return _permute(to_canonical or back)
    moved = _permute(back)
    regroup = (Reshape(wanted),) if moved and canonical != wanted else _regroup(canonical, wanted)
    return (*_permute(to_canonical), *regroup, *moved)


def _permute(perm: tuple[int, ...]) -> tuple[Op, ...]:
    return () if perm == tuple(range(len(perm))) else (Permute(perm),)


def _regroup(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[Op, ...]:
    """The plainest operation that keeps the order of elements."""
    if shape == wanted:
        return ()
    if prod(shape) != prod(wanted) or scrambles(shape, wanted):
        raise ValueError(f"cannot read {shape} as {wanted}")
    if tuple(n for n in shape if n != 1) == wanted:
        return (Squeeze(),)
    added = _inserted_ones(shape, wanted)
    return (Unsqueeze(added),) if added else (Reshape(wanted),)


def _inserted_ones(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Positions in ``wanted`` of ones that are not in ``shape``; empty when more than that differs."""
    added, position = [], 0
    for dim, length in enumerate(wanted):
        if position < len(shape) and shape[position] == length:
            position += 1
        elif length == 1:
            added.append(dim)
        else:
            return ()
    return tuple(added) if position == len(shape) else ()
