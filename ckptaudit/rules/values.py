"""The few values that rules ask for, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph.tensors import is_float
from ckptaudit.read import Checkpoint
from ckptaudit.read.recorded import BatchNormStatistics

#: A variance this close to 1 and a mean this close to 0, in every channel, are what BatchNorm starts with.
_INITIAL_TOLERANCE = 1e-6
#: Values looked at per tensor when the whole is not asked for: one page of float32.
_SAMPLE = 1024


def read_batch_norm(checkpoint: Checkpoint, names: Collection[str]) -> Iterator[BatchNormStatistics]:
    """Sum up every BatchNorm layer that owns one of ``names`` and whose statistics can be read; nothing else is read."""
    import numpy

    for layer in checkpoint.graph.layers:
        mean, var = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
        if mean is None or var is None or not (mean.name in names or var.name in names):
            continue
        if not (is_float(mean.dtype) and is_float(var.dtype)) or not mean.numel or not var.numel:
            continue
        try:
            means = checkpoint.read(mean.name).astype(numpy.float64)
            variances = checkpoint.read(var.name).astype(numpy.float64)
        except ValuesUnavailableError:
            continue
        yield BatchNormStatistics(
            layer.path,
            (mean.name, var.name),
            bool(numpy.isfinite(means).all() and numpy.isfinite(variances).all()),
            bool((variances < 0).any()),
            bool((abs(means) <= _INITIAL_TOLERANCE).all() and (abs(variances - 1) <= _INITIAL_TOLERANCE).all()),
        )


def non_finite_shares(checkpoint: Checkpoint, *, deep: bool) -> Mapping[str, float]:
    """Name → share of NaN or infinite values, of the float tensors that hold any.

    Without ``deep`` at most one page of each tensor is looked at, so that the cost does not grow with the file.
    """
    import numpy

    found = {}
    for spec in checkpoint.graph:
        if not is_float(spec.dtype) or not spec.numel:
            continue
        try:
            values = checkpoint.read(spec.name) if deep else checkpoint.sample(spec.name, _SAMPLE)
        except ValuesUnavailableError:
            continue
        if spec.dtype not in ("float16", "float32", "float64"):
            values = values.astype(numpy.float32)
        bad = values.size - int(numpy.isfinite(values).sum())
        if bad:
            found[spec.name] = bad / values.size
    return found
