"""``torch.nn.Module`` → :class:`~ckptaudit.graph.LayerGraph`: what ``load_state_dict`` would ask for, and what shapes cannot show."""

from __future__ import annotations

import functools
from math import isfinite
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error, shown_path
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import LayerGraph, Module, Origin, TensorSpec
from ckptaudit.graph.names import leaf
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

#: Attributes that change nothing of what a model computes from its weights.
_IRRELEVANT = frozenset({"training", "inplace", "call_super_init", "dump_patches"})


@dataclass(frozen=True, eq=False)
class BuiltModule:
    """A module, and which line of source code attached each child to its parent.

    Attributes
    ----------
    module:
        The root.
    attached:
        By ``id`` of a module: the module itself, so that its id stays its own, and the origin of each child by name.
    way:
        How it was built: one of ``meta``, ``meta-random``, ``real``; for tests and debugging.
    """

    module: torch.nn.Module
    attached: Mapping[int, tuple[torch.nn.Module, Mapping[str, Origin]]] = field(default_factory=dict)
    way: str = "real"


def layer_graph(built: BuiltModule, label: str, feeds: tuple[tuple[str, str], ...] = ()) -> LayerGraph:
    """Describe a module: the tensors of its ``state_dict()``, in that order and by these names, and its modules.

    Parameters
    ----------
    built:
        The module and the lines that attached its submodules.
    label:
        What the user calls the model, for messages.
    feeds:
        The dataflow, where it was traced.

    Raises
    ------
    ArchitectureError
        It has no state dict, or a shape is known only after a first forward pass.
    """
    module = built.module
    state = _state_dict(module, label)
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    specs = [
        TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), name in buffers) for name, tensor in state.items()
    ]
    modules = {path: _describe(child, origin) for path, child, origin in _walk(built)}
    return LayerGraph.from_tensors(specs, "torch", modules=modules, feeds=feeds, tied=_tied(module, state))


def _state_dict(module: torch.nn.Module, label: str) -> dict[str, torch.Tensor]:
    """Take the tensors of ``module.state_dict()``, which hooks may have renamed; asked for, never guessed from the parameters."""
    import torch

    try:
        state = module.state_dict()
    except Exception as error:
        raise ArchitectureError(f"{label} has no usable state dict: {describe_error(error)}") from error
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor) and leaf(name) != "_extra_state"}
    lazy = [name for name, tensor in tensors.items() if torch.nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ArchitectureError(
            f"{label}: the shape of {lazy[0]} is known only after a first forward pass; give sizes, or a model that has run"
        )
    return tensors


def _tied(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> tuple[tuple[str, ...], ...]:
    """Names of the state dict that share one memory, in its order."""
    # The state dict holds detached copies of the tensor objects; meta tensors have no address, so only the originals tell.
    originals: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    originals.update(module.named_buffers(remove_duplicate=False))
    groups: dict[object, list[str]] = {}
    for name, tensor in state.items():
        groups.setdefault(_memory(originals.get(name, tensor)), []).append(name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _memory(tensor: torch.Tensor) -> object:
    """Identify what two tensors have in common when they are the same view of one memory."""
    try:
        address = tensor.untyped_storage().data_ptr()
        return (address, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if address else id(tensor)
    except (RuntimeError, NotImplementedError):  # sparse and wrapped tensors have no plain storage
        return id(tensor)


def _walk(built: BuiltModule) -> Iterator[tuple[str, torch.nn.Module, Origin | None]]:
    """Every named module with the line that attached it.

    Modules that were copied (``copy.deepcopy``, as in ``nn.TransformerEncoder``) were attached by no line; they have the origin of
    the nearest module above them.
    """
    yield from _walk_below("", built.module, _definition(built.module), built, frozenset())


def _walk_below(
    path: str, module: torch.nn.Module, origin: Origin | None, built: BuiltModule, above: frozenset[int]
) -> Iterator[tuple[str, torch.nn.Module, Origin | None]]:
    yield path, module, origin
    if id(module) in above:  # a module that contains itself
        return
    _, lines = built.attached.get(id(module), (module, {}))
    # Shared modules are walked under each of their names, as the state dict does: named_modules() would name them once.
    for name, child in module._modules.items():
        if child is not None:
            below = f"{path}.{name}" if path else name
            line = lines.get(name)
            yield from _walk_below(below, child, origin if line is None else shown_origin(line), built, above | {id(module)})


def _definition(module: torch.nn.Module) -> Origin | None:
    """Where the class of the root is initialised; None for the containers of torch itself."""
    code = getattr(type(module).__init__, "__code__", None)
    if code is None or type(module).__module__.partition(".")[0] == "torch":
        return None
    return shown_origin(Origin(code.co_filename, code.co_firstlineno))


@functools.lru_cache(maxsize=4096)
def shown_origin(origin: Origin) -> Origin:
    """The same line, its file as :func:`~ckptaudit.arch.failures.shown_path` shows it."""
    return Origin(shown_path(Path(origin.path)), origin.line)


def _describe(module: torch.nn.Module, origin: Origin | None) -> Module:
    public = {name: value for name, value in vars(module).items() if not name.startswith("_") and name not in _IRRELEVANT}
    return Module(
        type(module).__name__, origin, {name: plain for name, value in public.items() if (plain := _plain(value)) is not _NOT_PLAIN}
    )


_NOT_PLAIN = object()


def _plain(value: object) -> Any:
    """``value`` where JSON can hold it (numbers, words, short tuples of them, names of functions); otherwise ``_NOT_PLAIN``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, list | tuple) and len(value) <= 8:
        items = tuple(_plain(item) for item in value)
        return _NOT_PLAIN if any(item is _NOT_PLAIN for item in items) else items
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return value.__name__  # an activation, as nn.TransformerEncoderLayer keeps it
    return _NOT_PLAIN
