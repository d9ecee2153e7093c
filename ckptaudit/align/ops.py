"""What is done to a tensor on its way from one name to the other: immutable values, chained in order.

Their names and parameters are those of a plan's JSON steps; a plain rename is the empty chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

__all__ = ["Concat", "Op", "Permute", "Reshape", "Split", "Squeeze", "Unsqueeze", "moved_dim", "ops_between", "permuted"]


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on one tensor (``concat``: on several)."""

    @property
    def name(self) -> str:
        """The operation's name in a plan: the class name in lower case."""
        return type(self).__name__.lower()

    @property
    def params(self) -> Mapping[str, int | tuple[int, ...]]:
        """Parameters by name, in the order in which the class declares them."""
        return {field: getattr(self, field) for field in self.__dataclass_fields__}

    def spelled(self) -> str:
        """The operation in the vocabulary of the remapping benchmark."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Permute(Op):
    """Reorder dimensions: dimension ``i`` of the result is dimension ``perm[i]`` of the input."""

    perm: tuple[int, ...]

    def spelled(self) -> str:
        """``transpose:3,2,0,1``."""
        return "transpose:" + ",".join(map(str, self.perm))


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """Read the same elements in the same order as another shape."""

    shape: tuple[int, ...]

    def spelled(self) -> str:
        """``reshape:50,1024,1,1``."""
        return "reshape:" + ",".join(map(str, self.shape))


@dataclass(frozen=True, slots=True)
class Squeeze(Op):
    """Drop all dimensions of length 1."""

    def spelled(self) -> str:
        """``squeeze``."""
        return "squeeze"


@dataclass(frozen=True, slots=True)
class Unsqueeze(Op):
    """Insert dimensions of length 1 at these positions of the result."""

    dims: tuple[int, ...]

    def spelled(self) -> str:
        """``unsqueeze``."""
        return "unsqueeze"


@dataclass(frozen=True, slots=True)
class Split(Op):
    """Take part ``index`` of ``of`` equal parts along ``dim``."""

    dim: int
    index: int
    of: int

    def spelled(self) -> str:
        """``split:0:1/3``."""
        return f"split:{self.dim}:{self.index}/{self.of}"


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Join the sources along ``dim``, in the order in which the pair lists them."""

    dim: int

    def spelled(self) -> str:
        """``concat:0``."""
        return f"concat:{self.dim}"


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
    inverse = _inverse(from_target)
    canonical, wanted = permuted(source, to_canonical), permuted(target, from_target)
    if canonical == wanted and len(to_canonical) == len(inverse):
        return _permute(permuted(to_canonical, inverse))
    if canonical == wanted:
        return _permute(to_canonical or inverse)
    moved = _permute(inverse)
    regroup = (Reshape(wanted),) if moved and canonical != wanted else _regroup(canonical, wanted)
    return (*_permute(to_canonical), *regroup, *moved)


def _inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def _permute(perm: tuple[int, ...]) -> tuple[Op, ...]:
    return () if perm == tuple(range(len(perm))) else (Permute(perm),)


def _regroup(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[Op, ...]:
    """The plainest operation that keeps the order of elements."""
    if shape == wanted:
        return ()
    if prod(shape) != prod(wanted):
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
