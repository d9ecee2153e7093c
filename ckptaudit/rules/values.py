"""The few values that rules ask for, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph import TensorSpec, is_float
from ckptaudit.read import Checkpoint
from ckptaudit.read.recorded import BatchNormStatistics

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


def non_finite_shares(checkpoint: Checkpoint, *, deep: bool) -> Mapping[str, float]:
    """Name → share of NaN or infinite values, of the float tensors that hold any.

    Without ``deep`` at most one page of each tensor is looked at, so that the cost does not grow with the file.
    """
    found = {}
    for spec in checkpoint.graph:
        if not is_float(spec.dtype) or not spec.numel:
            continue
        try:
            bad, size = _non_finite(checkpoint, spec, None if deep else _SAMPLE)
        except ValuesUnavailableError:
            continue
        if bad:
            found[spec.name] = bad / size
    return found


def _non_finite(checkpoint: Checkpoint, spec: TensorSpec, elements: int | None) -> tuple[int, int]:
    """How many values are NaN or infinite, and of how many: all of a tensor, or the first ``elements``."""
    few = None if elements is None else checkpoint.numbers(spec.name, elements)
    if few is not None:
        # A sum is finite only if everything in it is; the other way round a sum of the largest numbers may overflow.
        return 0 if isfinite(sum(few)) else len(few) - sum(map(isfinite, few)), len(few)
    import numpy

    values = checkpoint.read(spec.name) if elements is None else checkpoint.sample(spec.name, elements)
    if spec.dtype not in ("float16", "float32", "float64"):
        values = values.astype(numpy.float32)
    return values.size - int(numpy.isfinite(values).sum()), values.size
