"""Torch tensors as numpy arrays and back, bit for bit: also of dtypes that numpy knows only from ml_dtypes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CkptAuditError

if TYPE_CHECKING:
    import numpy
    import torch

#: Dtypes that pass as integers of the same width.
_BITS = {1: "uint8", 2: "int16"}


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a torch tensor; where torch was never imported there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_dtype(tensor: torch.Tensor) -> str:
    """The dtype in the vocabulary of :data:`ckptaudit.graph.DTYPE_BITS`."""
    return str(tensor.dtype).removeprefix("torch.")


def to_array(tensor: torch.Tensor) -> numpy.ndarray[Any, Any]:
    """The tensor's values, sharing its memory where they lie in main memory."""
    if tensor.is_meta:
        raise CkptAuditError("a tensor on the meta device has no values")
    plain = tensor.detach().cpu()
    word = tensor_dtype(plain)
    if word.startswith(("bfloat16", "float8")):
        import ml_dtypes
        import torch

        bits: numpy.ndarray[Any, Any] = plain.view(getattr(torch, _BITS[plain.element_size()])).numpy()
        return bits.view(getattr(ml_dtypes, word))
    if word not in ("float64", "float32", "float16", "complex64", "complex128", "bool") and "int" not in word.removeprefix("q"):
        raise CkptAuditError(f"values of the dtype {word} are not remapped")
    if plain.is_quantized:
        raise CkptAuditError("quantised tensors are not remapped")
    array: numpy.ndarray[Any, Any] = plain.resolve_conj().resolve_neg().numpy()
    return array


def to_tensor(array: numpy.ndarray[Any, Any], like: torch.Tensor | None = None) -> torch.Tensor:
    """A dense tensor of these values, on the device of ``like``; it may share the array's memory."""
    import numpy

    tensor = lent_tensor(array if array.flags.c_contiguous else numpy.array(array, copy=True, order="C"))
    return tensor if like is None else tensor.to(like.device)


def lent_tensor(array: numpy.ndarray[Any, Any]) -> torch.Tensor:
    """A tensor that is the array itself, strides and all, unless the array may not be written to."""
    import numpy
    import torch

    lent = array if array.flags.writeable else numpy.array(array, copy=True, order="C")
    word = array.dtype.name
    if word.startswith(("bfloat16", "float8")):
        return torch.from_numpy(lent.view(_BITS[array.dtype.itemsize])).view(getattr(torch, word))
    return torch.from_numpy(lent)
