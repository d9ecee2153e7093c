"""The few values that rules ask for, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph import TensorSpec, is_float
from ckptaudit.read import Checkpoint
from ckptaudit.read.ahead import reading_ahead
from ckptaudit.read.recorded import BatchNormStatistics
from ckptaudit.records import dataclass

#: A variance this close to 1 and a mean this close to 0, in every channel, are what BatchNorm starts with.
_INITIAL_TOLERANCE = 1e-6
#: Values looked at per tensor when the whole is not asked for: one page of float32.
_SAMPLE = 1024


def read_batch_norm(checkpoint: Checkpoint, names: Collection[str]) -> Iterator[BatchNormStatistics]:
    """Sum up every BatchNorm layer that owns one of ``names`` and whose statistics can be read; nothing else is read."""
    for layer in checkpoint.graph.layers:
        mean, var = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
        if mean is None or var is None or not (mean.name in names or var.name in names):
            continue
        if not (is_float(mean.dtype) and is_float(var.dtype)) or not mean.numel or not var.numel:
            continue
        try:
            means, variances = _floats(checkpoint, mean.name), _floats(checkpoint, var.name)
        except ValuesUnavailableError:
            continue
        finite = all(map(isfinite, means)) and all(map(isfinite, variances))
        yield BatchNormStatistics(
            layer.path,
            (mean.name, var.name),
            finite,
            any(value < 0 for value in variances),
            finite and _near(means, 0) and _near(variances, 1),
        )


def _floats(checkpoint: Checkpoint, name: str) -> Sequence[float]:
    """All values of a tensor, whatever its dtype."""
    values = checkpoint.numbers(name)
    if values is not None:
        return values
    flat: list[float] = checkpoint.read(name).astype("float64").reshape(-1).tolist()
    return flat


def _near(values: Sequence[float], wanted: float) -> bool:
    return max(values) - wanted <= _INITIAL_TOLERANCE and wanted - min(values) <= _INITIAL_TOLERANCE


@dataclass(frozen=True, slots=True)
class Values:
    """What was seen of the values of the float tensors.

    Attributes
    ----------
    non_finite:
        Name → share of NaN or infinite values, of those tensors that hold any.
    constant:
        Name → the value, of those kernels and matrices that hold one value alone.
    looked_at:
        How many kernels and matrices that might have held one value alone.
    """

    non_finite: Mapping[str, float]
    constant: Mapping[str, float]
    looked_at: int


def look_at_values(checkpoint: Checkpoint, *, deep: bool) -> Values:
    """Look at the float tensors, one at a time.

    Without ``deep`` at most one page of each tensor is looked at, and one more from the end of those whose first is one value alone, so
    that the cost does not grow with the file.
    """
    non_finite, constant, looked_at = {}, {}, 0
    with reading_ahead():
        for spec in checkpoint.graph:
            if not is_float(spec.dtype) or not spec.numel:
                continue
            try:
                # Python adds up a page before numpy is imported, but not a whole tensor.
                few = None if deep else checkpoint.numbers(spec.name, _SAMPLE)
                bad, size, value = _looked(checkpoint, spec, few, None if deep else _SAMPLE)
                if bad:
                    non_finite[spec.name] = bad / size
                if sum(length > 1 for length in spec.shape) < 2 or (few is None and 0 in checkpoint.branch.tensors[spec.name].strides):
                    continue  # a vector may well be all ones, and an expanded tensor is one value on purpose
                looked_at += 1
                if value is not None and (deep or (checkpoint.sample(spec.name, _SAMPLE, last=True) == value).all()):
                    constant[spec.name] = value
            except ValuesUnavailableError:
                continue
    return Values(non_finite, constant, looked_at)


def _looked(checkpoint: Checkpoint, spec: TensorSpec, few: Sequence[float] | None, elements: int | None) -> tuple[int, int, float | None]:
    """How many values are NaN or infinite, of how many, and which finite value all are: of a whole tensor, or its first ``elements``.

    ``few`` are these values where they could be had without numpy.
    """
    if few is not None:
        # A sum is finite only if everything in it is; the other way round a sum of the largest numbers may overflow.
        bad = 0 if isfinite(sum(few)) else len(few) - sum(map(isfinite, few))
        return bad, len(few), few[0] if few[0] == few[-1] and not bad and few.count(few[0]) == len(few) else None
    import numpy

    values = checkpoint.read(spec.name).reshape(-1) if elements is None else checkpoint.sample(spec.name, elements)
    if spec.dtype not in ("float16", "float32", "float64"):
        values = values.astype(numpy.float32)
    bad = values.size - int(numpy.isfinite(values).sum())
    return bad, values.size, float(values[0]) if not bad and (values == values[0]).all() else None
