"""A state dict in memory as a checkpoint, so that it can be audited like a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.torch_arrays import is_tensor, tensor_dtype, to_array
from ckptaudit.errors import CkptAuditError, ValuesUnavailableError
from ckptaudit.graph.names import leaf
from ckptaudit.read import Branch, Checkpoint
from ckptaudit.read.identity import FileIdentity
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

    import numpy


@dataclass(frozen=True, slots=True)
class HeldTensor(StoredTensor):
    """A tensor whose values lie in memory, on whatever device; only what is asked for is brought to main memory."""

    held: Any = field(default=None, compare=False, repr=False)

    def numbers(self, elements: int | None = None) -> array[float] | None:
        """None: what lies in memory is numpy's or torch's already."""
        return None

    def _view(self, shape: tuple[int, ...]) -> numpy.ndarray[Any, Any]:
        import numpy

        part = self.held
        while part.ndim > len(shape):
            part = part[0]
        if shape and part.shape[0] > shape[0]:
            part = part[: shape[0]]
        if not is_tensor(part):
            return numpy.asarray(part)
        try:
            return to_array(part)
        except (CkptAuditError, RuntimeError, TypeError, NotImplementedError) as error:
            raise ValuesUnavailableError(self.storage.path, " ".join(str(error).split())) from None


def checkpoint_of_state(state: Mapping[str, Any], label: str, framework: str = "torch") -> Checkpoint:
    """The tensors of a state dict as a checkpoint whose branch they are; what lies deeper is in other branches, and not looked at.

    Parameters
    ----------
    state:
        Names to torch tensors or numpy arrays. Their values are looked at when a rule asks for them, and never copied as a whole.
    label:
        What messages call it, in the place of a file's name.
    """
    path = Path(label)
    tensors = {name: _held(value, path) for name, value in state.items() if is_tensor(value) or _is_array(value)}
    optimizer = {"state", "param_groups"} <= state.keys()
    branch = Branch("", "optimizer" if optimizer else "model", MappingProxyType(tensors))
    deeper = () if optimizer else _deeper(state, path)
    return Checkpoint(
        path=path,
        format="state-dict",
        framework=framework,
        branch=branch,
        branch_reason="the state dict that was given",
        branches=(branch, *deeper),
        metadata=MappingProxyType({}),
        refused_globals=(),
        nbytes=sum(tensor.storage.nbytes for tensor in tensors.values()),
    )


def _deeper(state: Mapping[str, Any], path: Path) -> tuple[Branch, ...]:
    """State dicts within what was taken for one, as they are found in a file."""
    dicts = {name: value for name, value in state.items() if isinstance(value, dict) and leaf(name) != "_extra_state"}
    if not dicts:
        return ()
    from ckptaudit.read.unwrap import Unwrapper  # of use to a refusal alone

    try:
        return tuple(branch for branch in Unwrapper(path, _InMemory(path)).branches(dicts) if branch.name)
    except CkptAuditError:  # nested without end
        return ()


@dataclass(frozen=True, slots=True)
class _InMemory:
    """What tells tensors in memory from other objects, as a reader does in a file."""

    path: Path

    def is_tensor(self, value: Any) -> bool:
        return is_tensor(value) or _is_array(value)

    def tensor(self, value: Any, name: str) -> StoredTensor:
        return _held(value, self.path)


def _held(tensor: Any, path: Path) -> HeldTensor:
    shape = tuple(map(int, tensor.shape))
    if not is_tensor(tensor):
        storage = Storage(f"object:{id(tensor)}", path, 0, int(tensor.nbytes), file=FileIdentity(path, str(path), None))
        return HeldTensor(shape, contiguous_strides(shape), str(tensor.dtype.name), 0, storage, held=tensor)
    key, offset, strides = _memory(tensor)
    nbytes = prod(shape) * int(tensor.element_size())
    storage = Storage(key, path, 0, nbytes, file=FileIdentity(path, str(path), None))
    return HeldTensor(shape, contiguous_strides(shape) if strides is None else strides, tensor_dtype(tensor), offset, storage, held=tensor)


def _is_array(value: Any) -> bool:
    import numpy

    return isinstance(value, numpy.ndarray)


def _memory(tensor: Any) -> tuple[str, int, tuple[int, ...] | None]:
    """What two names of one tensor have in common; sparse, sharded and quantised tensors have no plain memory."""
    try:
        address = tensor.untyped_storage().data_ptr()
        if address:
            return f"memory:{address}", int(tensor.storage_offset()), tuple(tensor.stride())
    except (RuntimeError, NotImplementedError):
        pass
    return f"object:{id(tensor)}", 0, None
