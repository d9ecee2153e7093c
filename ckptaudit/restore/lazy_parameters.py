"""Parameters of lazy modules (``torch.nn.LazyLinear``), whose shapes a load decides: torch gives each the shape that the state dict has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.torch_arrays import is_tensor
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    import torch


@contextmanager
def as_if_loaded(module: torch.nn.Module, state: Mapping[str, Any], prefix: str) -> Iterator[frozenset[str]]:
    """Inside the block, stand-ins without memory for parameters that have no shape yet, in the shapes that a load gives them; their names.

    Parameters
    ----------
    prefix:
        What stands before the module's own names in ``state``.

    Raises
    ------
    ArchitectureError
        The state dict does not tell the shape of one.
    """
    import torch
    from torch.nn.parameter import is_lazy

    lazy = [
        (owned, name, tensor, f"{path}.{name}" if path else name)
        for path, part in module.named_modules(remove_duplicate=False)  # a module that is used twice has two names
        for owned in (part._parameters, part._buffers)
        for name, tensor in owned.items()
        if tensor is not None and is_lazy(tensor)
    ]
    try:
        for owned, name, tensor, full in lazy:
            value: Any = state.get(prefix + full)
            if not is_tensor(value) or is_lazy(value):
                raise ArchitectureError(
                    f"{type(module).__name__}: the shape of {full} is known only after a first forward pass, and the state dict does not "
                    "tell it: run the model once before it is loaded"
                )
            bare = torch.empty(value.shape, dtype=tensor.dtype, device="meta")
            owned[name] = torch.nn.Parameter(bare, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else bare
        yield frozenset(full for *_, full in lazy)
    finally:
        for owned, name, tensor, _ in lazy:
            owned[name] = tensor
