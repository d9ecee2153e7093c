"""Tensors that are zero in a file silence what is behind or before them: equal outputs then show nothing of whatever is silenced.

A residual branch whose last BatchNorm starts at zero, the second half of a low-rank adapter, a zero convolution: whatever the weights of
such a branch are, the outputs are the same. Only with other values in the place of those zeros do the outputs tell its weights apart.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides, numpy_dtype
from ckptaudit.records import replace

if TYPE_CHECKING:
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint

#: What a tensor may hold and still silence everything: in double precision it shows in no output.
_ZERO = 1e-6
_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


def zeros_of(plan: Plan, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Tensors of the file that a plan uses and that are zero throughout.

    Raises
    ------
    CheckpointError
        Values cannot be read.
    """
    import numpy

    tensors = checkpoint.branch.tensors
    found = []
    for name in dict.fromkeys(name for step in plan.steps for name in step.sources):
        stored = tensors[name]
        if stored.dtype in _DTYPES and 0 not in stored.shape:
            values = stored.read()
            if float(numpy.abs(values).max()) <= _ZERO:
                found.append(name)
    return tuple(found)


def with_other_values(checkpoint: Checkpoint, names: tuple[str, ...]) -> Checkpoint:
    """The checkpoint with random values in these tensors, the same ones at every call; tensors that share memory get the same.

    Vectors, which are biases, scales and variances, get positive values; matrices and kernels such that they do not amplify.
    """
    import numpy

    chance = numpy.random.default_rng(0)
    tensors = dict(checkpoint.branch.tensors)
    made: dict[tuple[Any, ...], StoredTensor] = {}
    for name in names:
        stored = tensors[name]
        if stored.address not in made:
            shape = stored.shape
            values = chance.uniform(0.05, 0.15, shape) if len(shape) < 2 else chance.normal(0, 0.5 / prod(shape[1:]) ** 0.5, shape)
            made[stored.address] = _holding(values.astype(numpy_dtype(stored.dtype)).tobytes(), stored, f"other values {len(made)}")
        tensors[name] = made[stored.address]
    return replace(checkpoint, branch=replace(checkpoint.branch, tensors=tensors))


def _holding(content: bytes, like: StoredTensor, key: str) -> StoredTensor:
    """A dense tensor with these bytes, otherwise like another."""
    storage = Storage(key, like.storage.path, 0, len(content), file=like.storage.file, fetch=lambda: content)
    return replace(like, strides=contiguous_strides(like.shape), offset=0, storage=storage)
