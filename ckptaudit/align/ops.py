"""What is done to a tensor on its way from one name to the other: immutable values, chained in order.

Every operation knows its result's shape before any value is read (:meth:`Op.result_shape`, which also refuses what does not
fit), computes it on numpy arrays without changing them (:meth:`Op.apply`), and names the operations that undo it
(:meth:`Op.reverse`). Their names and parameters are those of a plan's JSON steps; a plain rename is the empty chain.

In a chain of several sources, operations before the one that joins them (``concat``, ``fuse``) are done to each source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

from ckptaudit.errors import PlanError

if TYPE_CHECKING:
    import numpy

__all__ = [
    "OPS",
    "Concat",
    "Fuse",
    "Inflate",
    "Interpolate",
    "Op",
    "Permute",
    "Reshape",
    "Rows",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "apply_ops",
    "moved_dim",
    "op_from_json",
    "ops_between",
    "permuted",
    "reverse_ops",
    "shape_after",
]

Shape = tuple[int, ...]
_T = TypeVar("_T")
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
        return {field.name: getattr(self, field.name) for field in fields(self)}

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
        return PlanError(f"{self.spelled()} does not fit a tensor of shape {_shown(shape)}: {reason}")


def _shown(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "()"


@dataclass(frozen=True, slots=True)
class Permute(Op):
    """Reorder dimensions: dimension ``i`` of the result is dimension ``perm[i]`` of the input."""

    perm: tuple[int, ...]

    def spelled(self) -> str:
        """``transpose:3,2,0,1``."""
        return "transpose:" + ",".join(map(str, self.perm))

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes in the new order."""
        shape = self._one(shapes)
        if sorted(self.perm) != list(range(len(shape))):
            raise self._refuse(shape, f"it orders {len(self.perm)} dimensions")
        return tuple(shape[i] for i in self.perm)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The inverse permutation."""
        self.result_shape(*shapes)
        return (Permute(_inverse(self.perm)),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].transpose(self.perm)


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """Read the same elements in the same order as another shape.

    Where the same sizes would only change places (ones aside), a permutation is meant, and reading the elements in order would
    scramble them: that is refused.
    """

    shape: tuple[int, ...]

    def spelled(self) -> str:
        """``reshape:50,1024,1,1``."""
        return "reshape:" + ",".join(map(str, self.shape))

    def result_shape(self, *shapes: Shape) -> Shape:
        """The new shape, if it has as many elements."""
        shape = self._one(shapes)
        if prod(shape) != prod(self.shape) or min(self.shape, default=0) < 0:
            raise self._refuse(shape, f"{prod(shape):,} elements are not {prod(self.shape):,}")
        if scrambles(shape, self.shape):
            raise self._refuse(shape, "the same sizes in another order: a permutation is meant")
        return self.shape

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The input's shape."""
        self.result_shape(*shapes)
        return (Reshape(shapes[0]),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Squeeze(Op):
    """Drop all dimensions of length 1."""

    def spelled(self) -> str:
        """``squeeze``."""
        return "squeeze"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes other than 1."""
        return tuple(n for n in self._one(shapes) if n != 1)

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """Ones where they were."""
        return (Unsqueeze(tuple(i for i, n in enumerate(self._one(shapes)) if n == 1)),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.result_shape(arrays[0].shape))


@dataclass(frozen=True, slots=True)
class Unsqueeze(Op):
    """Insert dimensions of length 1 at these positions of the result."""

    dims: tuple[int, ...]

    def spelled(self) -> str:
        """``unsqueeze``."""
        return "unsqueeze"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's sizes with ones between."""
        shape = self._one(shapes)
        rank = len(shape) + len(self.dims)
        if len(set(self.dims)) != len(self.dims) or not all(0 <= dim < rank for dim in self.dims):
            raise self._refuse(shape, f"the result has {rank} dimensions, and {list(self.dims)} are not positions in it")
        sizes = iter(shape)
        return tuple(1 if dim in self.dims else next(sizes) for dim in range(rank))

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """The input's shape, which may have ones of its own."""
        self.result_shape(*shapes)
        return (Reshape(shapes[0]),)

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0].reshape(self.result_shape(arrays[0].shape))


@dataclass(frozen=True, slots=True)
class Split(Op):
    """Take part ``index`` of ``of`` equal parts along ``dim``."""

    dim: int
    index: int
    of: int

    def spelled(self) -> str:
        """``split:0:1/3``."""
        return f"split:{self.dim}:{self.index}/{self.of}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with one size divided."""
        shape = self._one(shapes)
        if not 0 <= self.dim < len(shape):
            raise self._refuse(shape, f"it has no dimension {self.dim}")
        if not 0 <= self.index < self.of:
            raise self._refuse(shape, f"of {self.of} parts there is none with index {self.index}")
        if shape[self.dim] % self.of:
            raise self._refuse(shape, f"{shape[self.dim]} has no {self.of} equal parts")
        return (*shape[: self.dim], shape[self.dim] // self.of, *shape[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: the other parts are lost."""
        return (Reshape(shapes[0]),) if self.result_shape(*shapes) == shapes[0] else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        size = arrays[0].shape[self.dim] // self.of
        return arrays[0][(slice(None),) * self.dim + (slice(self.index * size, (self.index + 1) * size),)]


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Take what lies from ``start`` up to ``stop`` along ``dim``: a part where the parts are not equal."""

    dim: int
    start: int
    stop: int

    def spelled(self) -> str:
        """``slice:0:64-128``."""
        return f"slice:{self.dim}:{self.start}-{self.stop}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with one size cut."""
        shape = self._one(shapes)
        if not 0 <= self.dim < len(shape):
            raise self._refuse(shape, f"it has no dimension {self.dim}")
        if not 0 <= self.start <= self.stop <= shape[self.dim]:
            raise self._refuse(shape, f"dimension {self.dim} has no positions {self.start} to {self.stop}")
        return (*shape[: self.dim], self.stop - self.start, *shape[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: the rest is lost."""
        return (Reshape(shapes[0]),) if self.result_shape(*shapes) == shapes[0] else None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return arrays[0][(slice(None),) * self.dim + (slice(self.start, self.stop),)]


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Join the sources along ``dim``, in the order in which the pair lists them."""

    dim: int

    joins = True

    def spelled(self) -> str:
        """``concat:0``."""
        return f"concat:{self.dim}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The sizes along ``dim`` added; all others must agree."""
        if not shapes:
            raise PlanError("concat takes at least one tensor")
        first = shapes[0]
        if not 0 <= self.dim < len(first):
            raise self._refuse(first, f"it has no dimension {self.dim}")
        for shape in shapes[1:]:
            if len(shape) != len(first) or any(a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != self.dim):
                raise self._refuse(first, f"another source has the shape {_shown(shape)}")
        return (*first[: self.dim], sum(shape[self.dim] for shape in shapes), *first[self.dim + 1 :])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """One part for each source."""
        self.result_shape(*shapes)
        sizes = [shape[self.dim] for shape in shapes]
        if len(set(sizes)) == 1:
            return tuple(Split(self.dim, i, len(sizes)) for i in range(len(sizes)))
        ends = list(accumulate(sizes))
        return tuple(Slice(self.dim, end - size, end) for size, end in zip(sizes, ends, strict=True))

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        _same_dtype(self, arrays)
        return numpy.concatenate(arrays, self.dim)


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
            raise self._refuse(shape, f"the model's initial tensor has the shape {_shown(initial[0])}")
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


_INFLATIONS = ("sum", "mean", "repeat")


@dataclass(frozen=True, slots=True)
class Inflate(Op):
    """Give a stem's kernel another number of input channels (its dimension 1).

    ``how``: ``sum`` to one channel, so that a grey image gives what it gave as three equal channels; ``mean``: every channel the
    mean of the old ones, scaled so that equal channels give the same sum; ``repeat``: the old channels in turn, scaled by old / new.
    """

    channels: int
    how: str

    def spelled(self) -> str:
        """``inflate:4:repeat``."""
        return f"inflate:{self.channels}:{self.how}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The input's shape with another dimension 1."""
        shape = self._one(shapes)
        if self.how not in _INFLATIONS:
            raise self._refuse(shape, f"{self.how!r} is none of {', '.join(_INFLATIONS)}")
        if len(shape) < 3 or shape[1] < 1:
            raise self._refuse(shape, "it is no convolution's kernel")
        if self.channels < 1 or (self.how == "sum" and self.channels != 1):
            raise self._refuse(shape, f"{self.how} does not give {self.channels} channels")
        return (shape[0], self.channels, *shape[2:])

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: sums lose their parts, scaling rounds."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        kernel, kind = _widened(self, arrays[0])
        old = kernel.shape[1]
        if self.how == "repeat":
            values: numpy.ndarray[Any, Any] = numpy.take(kernel, numpy.arange(self.channels) % old, axis=1) * (old / self.channels)
        else:
            values = numpy.repeat(kernel.sum(axis=1, keepdims=True) / self.channels, self.channels, axis=1)
        return values.astype(kind)


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

        from ckptaudit.align.resampling import resampling_matrix

        table, kind = _widened(self, arrays[0])
        end = table.shape[-2] - self.suffix
        grid = table[..., self.prefix : end, :].reshape(*table.shape[:-2], *self.old, table.shape[-1])
        rows, columns = (  # (H, h) and (W, w), for (…, h, w, c)
            resampling_matrix(old, new, self.mode, self.antialias).astype(table.dtype) for old, new in zip(self.old, self.new, strict=True)
        )
        resampled = numpy.einsum("Ww,...hwc->...hWc", columns, numpy.einsum("Hh,...hwc->...Hwc", rows, grid))
        positions = resampled.reshape(*table.shape[:-2], prod(self.new), table.shape[-1])
        result: numpy.ndarray[Any, Any] = numpy.concatenate([table[..., : self.prefix, :], positions, table[..., end:, :]], axis=-2)
        return result.astype(kind)


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
            raise self._refuse(shapes[0], f"the statistics have the shapes {', '.join(map(_shown, vectors))}")
        return shapes[0]

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: several tensors became one."""
        self.result_shape(*shapes)
        return None

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        first, kind = _widened(self, arrays[0])
        rest = [_widened(self, array)[0] for array in arrays[1:]]
        if self.part == "weight":
            gamma, variance = rest
            scale = gamma / numpy.sqrt(variance + self.eps)
            return (first * scale.reshape(-1, *(1,) * (first.ndim - 1))).astype(kind)
        gamma, mean, variance, *bias = rest
        shift = (bias[0] - mean) if bias else -mean
        return (first + shift * (gamma / numpy.sqrt(variance + self.eps))).astype(kind)


def _widened(op: Op, array: numpy.ndarray[Any, Any]) -> tuple[numpy.ndarray[Any, Any], numpy.dtype[Any]]:
    """The values in a type in which arithmetic is exact enough, and the type that they had."""
    import numpy

    kind = array.dtype
    if kind.kind == "f":
        return (array if kind.itemsize >= 4 else array.astype(numpy.float32)), kind
    if kind.name.startswith(("bfloat", "float")):  # of ml_dtypes, which numpy counts among no kind of its own
        return array.astype(numpy.float32), kind
    raise PlanError(f"{op.spelled()} computes with real numbers, and the tensor holds {kind}")


def _same_dtype(op: Op, arrays: Sequence[numpy.ndarray[Any, Any]]) -> None:
    kinds = dict.fromkeys(str(array.dtype) for array in arrays)
    if len(kinds) > 1:
        raise PlanError(f"{op.spelled()} joins tensors of one dtype, not of {' and '.join(kinds)}")


#: Every operation by its name in a plan.
OPS: Mapping[str, type[Op]] = {
    kind.__name__.lower(): kind for kind in (Permute, Reshape, Squeeze, Unsqueeze, Split, Slice, Concat, Rows, Inflate, Interpolate, Fuse)
}


def op_from_json(value: object) -> Op:
    """The operation that ``{"op": name, parameter: value …}`` describes.

    Raises
    ------
    PlanError
        There is no such operation, or a parameter is missing, unknown or of another type.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("op"), str):
        raise PlanError("an operation is a mapping with the key 'op'")
    kind = OPS.get(value["op"])
    if kind is None:
        raise PlanError(f"there is no operation {value['op']!r}; there are {', '.join(OPS)}")
    given = {key: item for key, item in value.items() if key != "op"}
    if unknown := [str(key) for key in given if key not in kind.__dataclass_fields__]:
        raise PlanError(f"{value['op']} has no parameter {unknown[0]!r}")
    params: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in given:
            params[field.name] = _param(f"{value['op']}: {field.name}", str(field.type), given[field.name])
    try:
        return kind(**params)
    except TypeError:
        missing = [name for name in kind.__dataclass_fields__ if name not in params]
        raise PlanError(f"{value['op']} lacks its parameter {missing[0]!r}") from None


def _param(where: str, kind: str, value: object) -> Param:
    if kind == "tuple[int, ...]":
        if isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            return tuple(value)
        raise PlanError(f"{where} is a list of integers")
    if kind == "float" and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    if type(value).__name__ == kind and isinstance(value, (int, str, bool)):
        return value
    raise PlanError(f"{where} is of the type {kind}")


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


def scrambles(shape: Shape, wanted: Shape) -> bool:
    """Whether the sizes other than 1 are the same in another order."""
    old, new = [n for n in shape if n != 1], [n for n in wanted if n != 1]
    return old != new and sorted(old) == sorted(new) and 0 not in old


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
