"""Dataflow of a torch model: which layers' outputs flow into which layers' inputs, found by one forward pass without values.

The pass runs on meta tensors, so it costs no arithmetic, and watches every operation: a tensor that goes in together with a layer's
weights is that layer's input, and what comes out is that layer's output. An operation without weights (an addition, a
concatenation, an interpolation) passes on where its inputs came from.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.graph.names import parent
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from ckptaudit.arch.model import Model

Feeds = tuple[tuple[str, str], ...]

#: Two images, because batch normalisation refuses to train on one value per channel.
_BATCH = 2


@dataclass(frozen=True, slots=True)
class Trace:
    """What a forward pass showed.

    Attributes
    ----------
    feeds:
        Pairs of layer paths (producer, consumer), each once, in the order of computation.
    reason:
        Why nothing is known; None when the pass succeeded.
    """

    feeds: Feeds = ()
    reason: str | None = None


def with_feeds(model: Model, input_size: Sequence[int] | None = None) -> Model:
    """Give the same model with ``graph.feeds`` filled, or with a remark that says why they are unknown.

    Parameters
    ----------
    model:
        A model that was built just now; one from a file keeps the feeds that it has.
    input_size:
        Sizes of one input without the batch, such as ``(3, 224, 224)``; guessed from the first layer where it is not given.
    """
    if model.module is None:
        reason = None if model.graph.feeds else f"the model comes from a {model.provenance} and cannot be run"
    else:
        trace = trace_feeds(model.module, input_size=input_size)
        model, reason = replace(model, graph=replace(model.graph, feeds=trace.feeds)), trace.reason
    return model if reason is None else replace(model, remarks=(*model.remarks, f"its dataflow is unknown: {reason}"))


def trace_feeds(module: torch.nn.Module, example_inputs: Sequence[Any] | None = None, input_size: Sequence[int] | None = None) -> Trace:
    """Find out which layers feed which.

    Parameters
    ----------
    module:
        A model; its weights and modes are left as they are.
    example_inputs:
        Positional arguments of its forward; only shapes and dtypes of tensors count.
    input_size:
        Sizes of a single input without the batch. Without either, usual sizes for the kind of the first layer are tried.

    Returns
    -------
    Trace
        Never raises for a model that cannot be traced: the reason is in the result. A layer whose weights are tied to an earlier
        one counts as that one.
    """
    reasons: list[str] = []
    tried: list[tuple[Any, ...]]
    if example_inputs is not None:
        tried = [tuple(to_meta(value) for value in example_inputs)]
    elif input_size is not None:
        tried = [(_image(input_size),)]
    else:
        tried = list(usual_inputs(module))
    with isolated(type(module).__name__):
        # In training mode first: there the auxiliary heads are part of the computation too.
        for mode in dict.fromkeys((module.training, False)):
            for inputs in tried:
                try:
                    with in_mode(module, training=mode), output_to_stderr():
                        return Trace(_feeds_of_pass(module, inputs))
                except (Exception, SystemExit) as error:
                    reasons.append(describe_error(error))
    return Trace(reason=reasons[0] if reasons else "the sizes of its input cannot be guessed; give input_size")


def _feeds_of_pass(module: torch.nn.Module, inputs: tuple[Any, ...]) -> Feeds:
    watch, _ = run_on_shapes(module, inputs, lambda shapes: _watch(shapes, inputs))
    feeds: Feeds = tuple(watch.feeds)
    return feeds


def run_on_shapes(
    module: torch.nn.Module, inputs: tuple[Any, ...], watching: Callable[[Mapping[str, torch.Tensor]], Any]
) -> tuple[Any, Any]:
    """Run a module without values.

    Parameters
    ----------
    watching:
        Gives a dispatch mode for the shapes of its tensors by their names.

    Returns
    -------
    tuple
        The mode, and what the module gave.
    """
    import torch

    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: to_meta(tensor) for name, tensor in named.items()}
    watch = watching(shapes)
    # Not the module's own tensors but their shapes: neither weights nor running statistics are touched.
    with torch.no_grad(), torch.device("meta"), watch:
        return watch, torch.func.functional_call(module, shapes, inputs)


def _watch(weights: Mapping[str, torch.Tensor], inputs: tuple[Any, ...]) -> AbstractContextManager[Any]:
    """Make a dispatch mode that follows ``inputs`` from layer to layer and collects ``feeds``, a dict for its order."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.feeds: dict[tuple[str, str], None] = {}
            self.layers = {memory(tensor): frozenset([parent(name)]) for name, tensor in weights.items()}
            self.producers = {memory(leaf): frozenset[str]() for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)}
            self.kept_alive: list[Any] = []  # a freed storage would hand its address on to a stranger

        def __torch_dispatch__(
            self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            operands = [memory(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            layers = frozenset[str]().union(*(self.layers[key] for key in operands if key in self.layers))
            data = [self.producers[key] for key in operands if key in self.producers]
            producers = frozenset[str]().union(*data)
            for layer in sorted(layers):
                self.feeds.update(((producer, layer), None) for producer in sorted(producers) if data and producer != layer)
            for output in tree_leaves(result):
                if isinstance(output, torch.Tensor):
                    self._label(output, layers, producers, carries_data=bool(data))
            return result

        def _label(self, output: torch.Tensor, layers: frozenset[str], producers: frozenset[str], *, carries_data: bool) -> None:
            key = memory(output)
            self.kept_alive.append(output.untyped_storage())
            if carries_data:
                before = self.producers.get(key, frozenset()) if is_part(output) else frozenset()
                # Weights win: behind a layer, only that layer is the producer.
                self.producers[key] = before | (layers or producers)
            elif layers:
                self.layers[key] = layers  # a transposed, split or expanded weight is still that layer's weight

    return Watch()


def memory(tensor: torch.Tensor) -> int:
    """The same for tensors that share a storage: what is written into a part of a tensor is then known of the whole."""
    return int(tensor.untyped_storage()._cdata)


def is_part(tensor: torch.Tensor) -> bool:
    """Whether the tensor is a view of a part of its storage."""
    return bool(tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes())


@contextmanager
def in_mode(module: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """Put a module and its parts into one mode for a while."""
    before = [(child, child.training) for child in module.modules()]
    try:
        if training != module.training:
            module.train(training)
        yield
    finally:
        for child, was_training in before:
            child.training = was_training


def to_meta(value: Any) -> Any:
    """A tensor's shape without its values; anything else as it is."""
    import torch

    return torch.empty_like(value.detach(), device="meta") if isinstance(value, torch.Tensor) else value


def _image(sizes: Sequence[int]) -> torch.Tensor:
    import torch

    return torch.empty(_BATCH, *sizes, device="meta")


def usual_inputs(module: torch.nn.Module) -> Iterator[tuple[Any, ...]]:
    """Make meta tensors to try as inputs: of the size that the model declares, then of usual sizes for its first layer."""
    import torch

    if (declared := _declared_size(module)) is not None:
        yield (_image(declared),)
    for child in module.modules():
        if isinstance(child, torch.nn.Embedding):
            yield (torch.empty(_BATCH, 16, dtype=torch.int64, device="meta"),)
            return
        if isinstance(child, torch.nn.Linear):
            yield from ((_image(sizes),) for sizes in ((child.in_features,), (16, child.in_features)))
            return
        if isinstance(child, torch.nn.Conv1d):
            yield (_image((child.in_channels, 4096)),)
            return
        if isinstance(child, torch.nn.Conv2d):
            yield from ((_image((child.in_channels, size, size)),) for size in (224, 299, 512, 256, 64, 48, 32, 24))
            yield (_image((child.in_channels, 128, 128)),) * 2  # optical flow compares two images
            return
        if isinstance(child, torch.nn.Conv3d):
            yield from ((_image((child.in_channels, 16, size, size)),) for size in (112, 224))
            return


def _declared_size(module: torch.nn.Module) -> tuple[int, ...] | None:
    """Channels, height and width of an image as timm and transformers note them at their models."""
    timm = getattr(module, "pretrained_cfg", None)
    if isinstance(timm, dict) and isinstance(timm.get("input_size"), tuple | list):
        return tuple(timm["input_size"])
    config = getattr(module, "config", None)
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if isinstance(channels, int) and isinstance(size, int):
        return (channels, size, size)
    return None
