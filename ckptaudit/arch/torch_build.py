"""Building a torch model for nothing: its weights are neither allocated nor initialised nor downloaded.

Three ways, from the cheapest to the surest. A model is built on the meta device, where a tensor is a shape without memory. Some
models compute with tensors while they are built (torchvision's RegNet asks for ``.tolist()``), and meta tensors have no values; for
those only the functions that make *uninitialised or random* tensors, which nobody computes with, go to the meta device. What fails
even so is built for real.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.attempts import calling_line, first_that_works, with_article
from ckptaudit.arch.torch_module import BuiltModule
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import torch

    #: By ``id`` of a module: the module itself, so that its id stays its own, and the origin of each child by name.
    Attached = dict[int, tuple[torch.nn.Module, dict[str, Origin]]]

#: Methods that only change values. A meta tensor has none, and going through torch's decompositions for it imports the compiler.
_INITIALISERS = (
    *("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"),
    *("zero_", "fill_", "erfinv_", "clamp_", "mul_", "add_", "sub_", "div_"),
)
_RANDOM_FACTORIES = ("empty", "rand", "randn")
_FACTORIES = (
    *_RANDOM_FACTORIES,
    *("empty_strided", "empty_permuted", "zeros", "ones", "full", "eye", "arange", "range", "linspace", "logspace"),
    *("randint", "randperm", "normal", "tensor", "as_tensor", "asarray", "scalar_tensor", "tril_indices", "triu_indices"),
    *("hann_window", "hamming_window", "bartlett_window", "blackman_window", "kaiser_window"),
)


_FOR_REAL: ContextVar[bool] = ContextVar("_FOR_REAL", default=False)


def is_for_real() -> bool:
    """Whether models are to be built with values."""
    return _FOR_REAL.get()


@contextmanager
def built_for_real() -> Iterator[None]:
    """Build models of this block with weights that have values, so that they can be run."""
    token = _FOR_REAL.set(True)
    try:
        yield
    finally:
        _FOR_REAL.reset(token)


def build_module(load: Callable[[], Callable[[], object]], label: str, home: Path | None = None) -> BuiltModule:
    """Build a model in the cheapest way that works.

    Parameters
    ----------
    load:
        Imports what is needed and returns the factory, which takes no arguments. Called once, with real tensors: a module's
        constants stay as they are for the rest of the process.
    label:
        What the user calls the factory, for messages (``models.py:build``).
    home:
        Folder of the user's code, see :func:`~ckptaudit.arch.failures.blamed_line`.

    Raises
    ------
    ArchitectureError
        The factory raised, tried to download something, or returned something that is no ``torch.nn.Module``.
    """
    import torch

    attempt = first_that_works(load, label, torch_ways, home)
    if not isinstance(attempt.made, torch.nn.Module):
        raise ArchitectureError(f"{label} returned {with_article(type(attempt.made).__name__)}, not a torch.nn.Module")
    return BuiltModule(attempt.made, attempt.notes, attempt.way)


@contextmanager
def recorded_origins() -> Iterator[Attached]:
    """Record which line outside ``torch.nn`` attaches each submodule, until the block is left."""
    import torch

    library = str(Path(torch.nn.__file__).parent)
    attached: Attached = {}

    def remember(parent: torch.nn.Module, name: str, child: torch.nn.Module | None) -> None:
        origin = calling_line(lambda file: file.startswith(library))
        if child is not None and origin is not None:
            attached.setdefault(id(parent), (parent, {}))[1][name] = origin

    handle = torch.nn.modules.module.register_module_module_registration_hook(remember)
    try:
        yield attached
    finally:
        handle.remove()


def torch_ways() -> Iterator[tuple[str, AbstractContextManager[Attached]]]:
    """Yield the ways to build a model, from the cheapest to the surest; each notes which line attached each submodule."""
    if not _FOR_REAL.get():
        yield "meta", _recording(_on_meta(_FACTORIES))
        yield "meta-random", _recording(_on_meta(_RANDOM_FACTORIES))
    yield "real", recorded_origins()


@contextmanager
def _recording(mode: AbstractContextManager[object]) -> Iterator[Attached]:
    with recorded_origins() as attached, mode:
        yield attached


def _on_meta(factories: Collection[str]) -> AbstractContextManager[object]:
    """Make a mode in which these functions of torch give meta tensors, and meta tensors stay where they are."""
    import torch
    from torch.overrides import TorchFunctionMode

    sent = {getattr(torch, name) for name in factories if hasattr(torch, name)}
    moves = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
    initialisers = {getattr(torch.Tensor, name) for name in _INITIALISERS}

    class OnMeta(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if function in initialisers and isinstance(args[0], torch.Tensor) and args[0].is_meta:
                return args[0]
            if function in sent and kwargs.get("out") is None and not _on_cpu(kwargs.get("device")):
                kwargs = {**kwargs, "device": "meta"}
            elif function in moves and args[0].is_meta:
                # A factory that ends in model.to("cuda") needs no GPU here, and must not allocate on the CPU either.
                dtype = next((d for a in (*args[1:], *kwargs.values()) if (d := _dtype_of(a)) is not None), None)
                return args[0] if dtype is None else args[0].to(dtype)
            return function(*args, **kwargs)

    def _dtype_of(argument: object) -> object:
        if isinstance(argument, torch.Tensor):
            return argument.dtype
        return argument if isinstance(argument, torch.dtype) else None

    return OnMeta()


def _on_cpu(device: object) -> bool:
    """Whether the CPU was asked for by name: that is done to compute with values, so it is respected."""
    return device is not None and str(device).startswith("cpu")
