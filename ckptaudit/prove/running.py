"""A restored network, run on images and watched: what reaches each BatchNorm, what each layer gives, what comes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.arch.trace import usual_inputs
from ckptaudit.errors import ArchitectureError
from ckptaudit.prove.networks import tensors_of
from ckptaudit.prove.proof import NOT_RUN
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    import numpy
    import torch

    Array = numpy.ndarray[Any, Any]

#: Longest side of a map that is kept of an output: every other pixel is enough to see what is decided.
_KEPT_SIDE = 128
#: What a layer of these classes gives lies between two ends, at which nothing is learnt.
_BOUNDED = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
_AT_THE_END = 1e-4
#: A variance of less than this share of the mean square is lost in rounding: single precision knows that to six digits.
_KNOWN = 1e-3


@dataclass(eq=False)
class Moments:
    """Mean and variance of each channel, over any number of batches."""

    count: int
    mean: Array
    var: Array

    def with_batch(self, count: int, mean: Array, var: Array) -> Moments:
        """The same with one more batch."""
        whole = self.count + count
        together = (self.count * self.mean + count * mean) / whole
        spread = (self.count * (self.var + self.mean**2) + count * (var + mean**2)) / whole - together**2
        return Moments(whole, together, spread.clip(min=0))


@dataclass(eq=False)
class Look:
    """What one layer gave, over all batches.

    Attributes
    ----------
    kind:
        The layer's class.
    finite_in, finite:
        Whether all values that went in, and all that came out, are numbers.
    largest:
        The largest magnitude.
    silent:
        Share of its channels that are 0 for every image.
    saturated:
        Share of values at either end, for functions that have ends; else 0.
    """

    kind: str
    finite_in: bool = True
    finite: bool = True
    largest: float = 0.0
    silent: float = 1.0
    saturated: float = 0.0
    _loudest: Any = field(default=None, repr=False)

    def see(self, values: Array, finite_in: bool) -> None:
        """Look at one more batch: (images, channels, …)."""
        import numpy

        loud = numpy.abs(values.reshape(len(values), values.shape[1], -1)).max((0, 2)) if values.ndim > 1 and values.size else None
        self.see_loudness(loud, bool(numpy.isfinite(values).all() if loud is None else numpy.isfinite(loud).all()), finite_in)
        if self.finite and self.kind in _BOUNDED:
            low, high = _BOUNDED[self.kind]
            self.saturated = float(((values < low + _AT_THE_END) | (values > high - _AT_THE_END)).mean())

    def see_loudness(self, loud: Array | None, finite: bool, finite_in: bool) -> None:
        """The same for a batch of which the largest magnitude of each channel is known; None where there are no channels."""
        import numpy

        self.finite_in &= finite_in
        self.finite &= finite
        if not finite or loud is None:
            return
        self._loudest = loud if self._loudest is None else numpy.maximum(loud, self._loudest)
        self.largest = float(self._loudest.max())
        self.silent = float((self._loudest == 0).mean())


@dataclass(eq=False)
class Pass:
    """Some batches run through a network.

    Attributes
    ----------
    outputs:
        The first tensor of numbers that comes out, channels first: (images, classes) or (images, classes, height, width), thinned out in
        space. Empty where the pass was cut short.
    norms:
        What reached each BatchNorm, in the order of computation.
    layers:
        What each layer gave, where that was asked for.
    shape:
        Of the output for one batch, as the network gives it.
    """

    outputs: Array
    norms: dict[str, Moments]
    layers: dict[str, Look]
    shape: tuple[int, ...] = ()


class Network(Protocol):
    """What the hypotheses need of a network, whatever its framework."""

    framework: str
    #: Axis of the classes in what the network gives.
    class_axis: int

    def norms(self) -> dict[str, Moments]:
        """What each BatchNorm remembers from training."""

    def run(self, batches: Iterable[Array], *, alone: bool = False, until: str | None = None, look: int = 0) -> Pass:
        """Run batches, each (images, channels, height, width).

        Parameters
        ----------
        batches:
            Of two images at least where ``alone`` is asked for.
        alone:
            Every BatchNorm scales by its batch instead of by what it remembers: what reaches one is then no matter of those before it.
        until:
            A BatchNorm behind which nothing is computed.
        look:
            Look at every layer, not only at BatchNorms, until so many images have been seen; batches are not divided for it.
        """

    def input_sizes(self) -> Iterator[tuple[int, int, int]]:
        """Channels, height and width that may be those of the input, the likeliest first."""

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Every parameter and statistic."""


class _EnoughError(Exception):
    """The part of the network that was wanted has been run."""


class TorchNetwork:
    """A module of torch in evaluation mode; it is left as it was."""

    framework = "torch"
    class_axis = 1

    def __init__(self, module: torch.nn.Module) -> None:
        import torch

        self.module = module.eval()
        self._norms = {
            path: child
            for path, child in module.named_modules()
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm) and child.running_mean is not None
        }

    def norms(self) -> dict[str, Moments]:
        """See :class:`Network`."""
        return {
            path: Moments(1, norm.running_mean.double().numpy(), norm.running_var.double().numpy()) for path, norm in self._norms.items()
        }

    def batches_seen(self) -> dict[str, int]:
        """How many batches each BatchNorm has noted that it saw."""
        return {path: int(norm.num_batches_tracked) for path, norm in self._norms.items() if norm.num_batches_tracked is not None}

    def weights(self) -> Iterator[tuple[str, Array]]:
        """See :class:`Network`."""
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point():
                yield name, tensor.detach().float().numpy()

    def input_sizes(self) -> Iterator[tuple[int, int, int]]:
        """See :class:`Network`."""
        for inputs in usual_inputs(self.module):
            if len(inputs) == 1 and inputs[0].ndim == 4:
                yield tuple(inputs[0].shape[1:])

    def results(self, images: Array) -> list[Array]:
        """Every output of numbers with a point, in single precision.

        Raises
        ------
        ArchitectureError
            The network does not take such images.
        """
        import torch

        with isolated(type(self.module).__name__), torch.no_grad(), output_to_stderr():
            try:
                given = tensors_of(self.module.float()(torch.from_numpy(images)))
            except (Exception, SystemExit) as error:
                sizes = "×".join(map(str, images.shape[1:]))
                raise ArchitectureError(f"{NOT_RUN[1]} images of {sizes}: {describe_error(error)}") from None
        return [tensor.detach().numpy() for tensor in given if tensor.is_floating_point() and tensor.numel()]

    def run(self, batches: Iterable[Array], *, alone: bool = False, until: str | None = None, look: int = 0) -> Pass:
        """See :class:`Network`.

        Raises
        ------
        ArchitectureError
            The network does not take such images, or gives no tensor.
        """
        import numpy
        import torch

        norms: dict[str, Moments] = {}
        layers: dict[str, Look] = {}
        outputs: list[Array] = []
        shape: tuple[int, ...] = ()
        with ExitStack() as stack:
            stack.enter_context(isolated(type(self.module).__name__))
            stack.enter_context(torch.no_grad())
            if alone:
                stack.enter_context(self.alone())
            for path, norm in self._norms.items():
                stack.callback(norm.register_forward_pre_hook(_reaching(norms, path)).remove)
                if path == until:
                    stack.callback(norm.register_forward_pre_hook(_stop).remove)
            calls: Counter[str] = Counter()
            looking = stack.enter_context(ExitStack())
            if look:
                for path, child in self.module.named_modules():
                    if not list(child.children()):
                        looking.callback(child.register_forward_hook(_looking(layers, calls, path)).remove)
            seen = 0
            for batch in batches:
                calls.clear()
                if seen >= look:
                    looking.close()
                seen += len(batch)
                try:
                    with output_to_stderr():
                        given = self.module(torch.from_numpy(numpy.ascontiguousarray(batch)))
                except _EnoughError:
                    continue
                except Exception as error:
                    sizes = "×".join(map(str, batch.shape[1:]))
                    raise ArchitectureError(f"the model cannot be run on images of {sizes}: {describe_error(error)}") from None
                first = next((tensor for tensor in tensors_of(given) if tensor.is_floating_point() and tensor.ndim >= 2), None)
                if first is None:
                    raise ArchitectureError("the model gives no tensor of numbers")
                shape = tuple(first.shape)
                outputs.append(thinned(first.float().numpy()))
        return Pass(numpy.concatenate(outputs) if outputs else numpy.empty((0, 0)), norms, layers, shape)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let every BatchNorm scale by its batch; what each remembers is in place again afterwards."""
        kept = {path: {name: tensor.clone() for name, tensor in norm.named_buffers()} for path, norm in self._norms.items()}
        try:
            for norm in self._norms.values():
                norm.train()
            yield
        finally:
            for path, norm in self._norms.items():
                norm.eval()
                for name, tensor in norm.named_buffers():
                    tensor.copy_(kept[path][name])


def thinned(output: Array) -> Array:
    """(images, classes, …) with every other pixel left out until no side is longer than 128."""
    steps = tuple(slice(None, None, math.ceil(side / _KEPT_SIDE)) for side in output.shape[2:])
    return output[(slice(None), slice(None), *steps)].copy()


def _stop(*_: object) -> None:
    raise _EnoughError


def _reaching(norms: dict[str, Moments], path: str) -> Callable[..., None]:
    def hook(_: object, args: tuple[Any, ...]) -> None:
        count, mean, var = moments_of(args[0].detach())
        norms[path] = norms[path].with_batch(count, mean, var) if path in norms else Moments(count, mean, var)

    return hook


def moments_of(values: torch.Tensor) -> tuple[int, Array, Array]:
    """Of (images, channels, …): how many values a channel has, the mean and the variance of each. Nothing is copied for it."""
    import torch

    rows = (values.flatten(2) if values.ndim > 2 else values[:, :, None]).float()
    count = rows.shape[0] * rows.shape[2]
    mean = rows.sum(2).double().sum(0) / count
    square = (torch.linalg.vector_norm(rows, dim=2).double() ** 2).sum(0) / count
    var = square - mean**2
    # In single precision the difference of two large numbers is not known well: there it is computed from the deviations.
    if len(unsure := (~(var > _KNOWN * square)).nonzero()[:, 0]):
        var[unsure] = rows[:, unsure].double().var((0, 2), correction=0)
    var *= count / max(1, count - 1)
    return count, mean.numpy(), var.numpy()


def _looking(layers: dict[str, Look], calls: Counter[str], path: str) -> Callable[..., None]:
    """A module that is called several times, as one ReLU for a whole block is, is looked at each time."""

    def hook(module: object, args: tuple[Any, ...], output: Any) -> None:
        import torch

        made = next((tensor.detach() for tensor in tensors_of(output) if tensor.is_floating_point()), None)
        if made is None:
            return
        calls[path] += 1
        name = path if calls[path] == 1 else f"{path} (call {calls[path]})"
        look = layers.setdefault(name, Look(type(module).__name__))
        loud = None
        if made.ndim > 1 and made.numel():
            loud = torch.linalg.vector_norm(made.flatten(2) if made.ndim > 2 else made[:, :, None], torch.inf, dim=2).amax(0)
        finite = bool((made if loud is None else loud).isfinite().all())
        # What went in matters only where something else comes out; a layer that works in place cannot tell any more, and makes none.
        given = () if finite else [tensor for tensor in tensors_of(args) if tensor.is_floating_point()]
        if look.kind in _BOUNDED and finite:
            look.see(made.float().numpy(), True)
        else:
            finite_in = all(bool(tensor.isfinite().all()) for tensor in given)
            look.see_loudness(None if loud is None else loud.float().numpy(), finite, finite_in)

    return hook


def batches_of(images: Array, most: int) -> Sequence[Array]:
    """Batches of at most ``most`` images, as even as can be, so that none is left with a single one."""
    import numpy

    return [part for part in numpy.array_split(images, max(1, math.ceil(len(images) / most))) if len(part)]


def network_of(module: Any) -> Network:
    """The network around a live model of torch or Keras."""
    from ckptaudit.arch.live import is_keras_model

    if is_keras_model(module):
        from ckptaudit.prove.keras_running import KerasNetwork

        return KerasNetwork(module)
    return TorchNetwork(module)


def divergences(found: Mapping[str, Moments], remembered: Mapping[str, Moments]) -> dict[str, float]:
    """By layer: the median over its channels of KL(found ‖ remembered) of two normal distributions, in nats."""
    import numpy

    figures = {}
    for path, moments in found.items():
        old = remembered[path]
        var, old_var = moments.var.clip(min=1e-12), old.var.clip(min=1e-12)
        with numpy.errstate(all="ignore"):
            divergence = 0.5 * (numpy.log(old_var / var) + (var + (moments.mean - old.mean) ** 2) / old_var - 1)
        median = float(numpy.median(divergence)) if numpy.isfinite(divergence).all() else math.inf
        figures[path] = median if math.isfinite(median) else 1e9
    return figures
