"""Compare the values of an export with those of the checkpoint that it is said to come from: BatchNorm folded once more, layer by layer.

Of a convolution with weight w and a BatchNorm with γ, β, mean and variance behind it, an exporter keeps w·γ/√(variance + eps) and
β + (b - mean)·γ/√(variance + eps), b being the convolution's own bias, if it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.align.by_topology import Topology, UnitPair
from ckptaudit.align.by_topology.tensors import tensor_pairs
from ckptaudit.align.by_topology.units import Unit
from ckptaudit.align.ops import Fill, apply_ops
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.computation import CONV_TRANSPOSE, Use
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: A difference relative to the largest value of a tensor: what folding in single precision costs is a tenth of it at most.
TOLERANCE = 1e-4
#: The same where a side keeps half precision (2⁻¹¹ for float16, 2⁻⁸ for bfloat16).
_HALF = {"float16": 2e-3, "bfloat16": 2e-2}
#: More layers that are alike are not tried with each other's values, nor is it looked for more which weight they hold.
_MAX_OPEN, _MAX_SEARCHES = 64, 16
_BY_VALUES = "of the layers that are alike it alone has the values of the other file, folded"

Read = Callable[[str], "Array | None"]


@dataclass(frozen=True, slots=True)
class LayerValues:
    """How the values of one layer of the export compare.

    Attributes
    ----------
    layer:
        The module of the model.
    names:
        The export's tensors.
    targets:
        The model's.
    difference:
        The largest, relative to the largest value; infinite where one is no number.
    tolerance:
        Up to which they are called equal.
    holds:
        Another layer of the model whose weight it is; only looked for where values differ.
    """

    layer: str
    names: tuple[str, ...]
    targets: tuple[str, ...]
    difference: float
    tolerance: float
    holds: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether they are equal within the tolerance."""
        return self.difference <= self.tolerance


class Refolding:
    """The export beside the values of another file of the same network.

    Parameters
    ----------
    graphs:
        Of the export and of the model.
    read:
        Gives values of the export's tensors, in the layout of the file.
    reference:
        Gives values by the model's names, in the model's layout; None for what the other file does not have.
    dtypes:
        In which both files keep their values.
    """

    def __init__(self, graphs: tuple[LayerGraph, LayerGraph], read: Read, reference: Read, dtypes: tuple[str, ...] = ()) -> None:
        self.graphs, self.read, self.reference = graphs, read, reference
        self.tolerance = max([TOLERANCE, *(_HALF.get(dtype, 0.0) for dtype in dtypes)])

    def decided(self, topology: Topology) -> Topology:
        """The same with those open layers decided whose values only one of the layers that are alike has."""
        open_ = [pair for pair in topology.layers if pair.grade == "ambiguous"]
        if not 0 < len(open_) <= _MAX_OPEN:
            return topology
        taken: dict[int, Unit] = {}
        for pair in open_:
            fitting = [
                other.source
                for other in open_
                if other.source.weight is not None
                and pair.source.weight is not None
                and other.source.weight.shape == pair.source.weight.shape
                and (found := self.compared(replace(pair, source=other.source))) is not None
                and found.agrees
            ]
            if len(fitting) == 1:
                taken[id(pair.target)] = fitting[0]
        if len({id(unit) for unit in taken.values()}) < len(taken):
            return topology
        layers = tuple(
            replace(pair, source=taken[id(pair.target)], grade="decided", evidence=_BY_VALUES, runner_up=None)
            if id(pair.target) in taken
            else pair
            for pair in topology.layers
        )
        return topology.with_layers(layers, self.graphs)

    def layers(self, topology: Topology) -> Iterator[LayerValues]:
        """How each layer compares that both sides have."""
        found = [(pair, values) for pair in topology.layers if (values := self.compared(pair)) is not None]
        searches = _MAX_SEARCHES
        for pair, values in found:
            searches -= not values.agrees
            if values.agrees or searches < 0:
                yield values
                continue
            others = (other for other, _ in found if other is not pair and _alike(other.target, pair.target))
            holder = next((other for other in others if self._same_kernel(pair, other)), None)
            yield values if holder is None else replace(values, holds=holder.target.operation.path)

    def _same_kernel(self, pair: UnitPair, other: UnitPair) -> bool:
        """Whether the export's weight is that of another layer of the model, but for a factor of each channel that it is given."""
        wanted = other.target.weight
        reference = self.reference(wanted.name) if wanted is not None else None
        item = next((item for item in self._items(pair) if pair.target.weight and item.target == pair.target.weight.name), None)
        values = self.read(item.sources[0]) if item is not None else None
        if item is None or values is None or reference is None:
            return False
        one, two = (_directions(array, pair.target) for array in (apply_ops(item.ops, [values]), reference))
        return one.shape == two.shape and bool((abs(abs((one * two).sum(-1)) - 1) < self.tolerance).all())

    def _items(self, pair: UnitPair) -> list[Pair]:
        return [item for item in tensor_pairs(pair.source, pair.target, *self.graphs) if isinstance(item, Pair)]

    def compared(self, pair: UnitPair) -> LayerValues | None:
        """How one layer compares; None where a side has no values for it, or not the same shapes."""
        expected = self._expected(pair)
        if not expected:
            return None
        found = self._items(pair)
        differences, names, targets = [], [], []
        for item in found:
            if item.target not in expected or any(isinstance(op, Fill) for op in item.ops):
                continue
            values = self.read(item.sources[0])
            if values is None:
                return None
            names.append(item.sources[0])
            targets.append(item.target)
            differences.append(_difference(apply_ops(item.ops, [values]), *expected[item.target]))
        if not differences:
            return None
        return LayerValues(pair.target.operation.path, tuple(names), tuple(targets), max(differences), self.tolerance)

    def _expected(self, pair: UnitPair) -> dict[str, tuple[Array, float]]:
        """By the model's name what the export should hold, and the largest value that went into it."""
        unit = pair.target
        held = {use.name: values for use in unit.uses() if use.whole and (values := self.reference(use.name)) is not None}
        if not pair.folded:
            return {name: (values, _largest(values)) for name, values in held.items()}
        return self._folded(unit, held)

    def _folded(self, unit: Unit, held: Mapping[str, Array]) -> dict[str, tuple[Array, float]]:
        import numpy

        roles = unit.norm.tensors if unit.norm is not None else {}
        gamma, beta, mean, variance = (_held(held, roles.get(role)) for role in ("weight", "bias", "running_mean", "running_var"))
        weight, bias = _held(held, unit.weight), _held(held, unit.bias)
        if unit.norm is None or unit.weight is None or weight is None or gamma is None or beta is None or mean is None or variance is None:
            return {}
        with numpy.errstate(all="ignore"):
            scale = gamma / numpy.sqrt(variance + unit.norm.settings.get("eps", 1e-5))
            kernel = weight * _along_outputs(scale, weight.ndim, unit)
            own = (-mean if bias is None else bias - mean) * scale
            size = float(numpy.max(numpy.abs(beta) + numpy.abs(own), initial=0.0))
        return {unit.weight.name: (kernel, _largest(kernel)), roles["bias"].name: (beta + own, size)}


def _along_outputs(scale: Array, rank: int, unit: Unit) -> Array:
    """The factor of each output channel, laid along the axis on which the weight has it."""
    if unit.kind == CONV_TRANSPOSE:
        return scale.reshape(1, -1, *(1,) * (rank - 2))
    return scale.reshape(-1, *(1,) * (rank - 1))


def _directions(values: Array, unit: Unit) -> Array:
    """Each output channel's part of a weight, of length 1."""
    import numpy

    rows = values.astype(numpy.float64)
    if unit.kind == CONV_TRANSPOSE and rows.ndim > 1:
        rows = rows.swapaxes(0, 1)
    rows = rows.reshape(rows.shape[0], -1)
    directions: Array = rows / numpy.sqrt((rows**2).sum(-1, keepdims=True)).clip(min=1e-30)
    return directions


def _held(held: Mapping[str, Array], use: Use | None) -> Array | None:
    import numpy

    values = held.get(use.name) if use is not None else None
    return None if values is None else values.astype(numpy.float64)


def _difference(values: Array, wanted: Array, size: float) -> float:
    import numpy

    if values.shape != wanted.shape:
        return float("inf")
    with numpy.errstate(all="ignore"):
        off = float(numpy.max(numpy.abs(values.astype(numpy.float64) - wanted.astype(numpy.float64)), initial=0.0))
    if not numpy.isfinite(off):
        return float("inf")
    return off / size if size else off


def _largest(values: Array) -> float:
    import numpy

    return float(numpy.max(numpy.abs(values.astype(numpy.float64)), initial=0.0))


def _alike(one: Unit, other: Unit) -> bool:
    return one.weight is not None and other.weight is not None and (one.kind, one.weight.shape) == (other.kind, other.weight.shape)


def reading(alignment: Alignment, read: Read) -> Read:
    """Values of another file by the model's names, by a sure alignment of both; in the model's layout."""
    pairs = MappingProxyType({name: pair for name, pair in alignment.pairs.items() if pair.sure})

    def values(name: str) -> Array | None:
        pair = pairs.get(name)
        if pair is None:
            return None
        found = [read(source) for source in pair.sources]
        return None if any(item is None for item in found) else apply_ops(pair.ops, [item for item in found if item is not None])

    return values
