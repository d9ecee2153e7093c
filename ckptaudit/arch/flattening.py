"""Whether and in which order a torch model flattens a feature map before a dense layer: seen in one forward pass without weights.

The pass runs on meta tensors, as a trace does. What leaves the last convolutional part before the dense layer is exchanged for numbers
that tell channel and place, and looked at again where it enters the dense layer; whatever lies between (pooling, a permutation, a reshape)
has run.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.arch.trace import in_mode, to_meta, usual_inputs

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

Order = Literal["channels first", "channels last", "pooled"]

#: Added to every number: usual activations leave what is larger than this as it is.
_OFFSET = 8.0


class _Seen(Exception):  # noqa: N818 - ends a pass, nothing failed
    pass


def flatten_orders(module: Any, paths: Collection[str]) -> Mapping[str, Order]:
    """The order before each dense layer of ``paths``, ``pooled`` where only channels are left; one that cannot be told is absent.

    Parameters
    ----------
    module:
        A ``torch.nn.Module``; its weights and modes are left as they are, and its ``forward`` is run.
    paths:
        Paths of dense layers.
    """
    found: dict[str, Order] = {}
    with isolated(type(module).__name__), output_to_stderr(), in_mode(module, training=False):
        for inputs in usual_inputs(module):
            try:
                before = _maps_before(module, inputs, paths)
                for path, (name, call) in before.items():
                    if (order := _order(module, inputs, path, name, call)) is not None:
                        found[path] = order
            except (Exception, SystemExit) as error:
                _log.debug("no pass of %s: %s", type(module).__name__, describe_error(error))
                continue
            return found
    return found


def _maps_before(module: Any, inputs: tuple[Any, ...], paths: Collection[str]) -> dict[str, tuple[str, int]]:
    """For each dense layer the last module before it that gives a map with height and width, and which of its calls that is."""
    last: list[tuple[str, int]] = []
    before: dict[str, tuple[str, int]] = {}
    calls: dict[str, int] = {}
    handles = []
    for name, child in module.named_modules():
        if name in paths:
            handles.append(child.register_forward_pre_hook(lambda _, __, name=name: before.update({name: last[-1]} if last else {})))
        elif not list(child.children()):

            def note(_: Any, __: Any, output: Any, name: str = name) -> None:
                calls[name] = calls.get(name, -1) + 1
                if getattr(output, "ndim", 0) == 4 and output.shape[2] * output.shape[3] > 1:
                    last.append((name, calls[name]))

            handles.append(child.register_forward_hook(note))
    try:
        _run(module, inputs, handles)
    except (Exception, SystemExit):
        if not before:
            raise
        # Of an image of another size than the model's, what comes before the first dense layer has run all the same.
    return before


def _order(module: Any, inputs: tuple[Any, ...], path: str, name: str, call: int) -> Order | None:
    seen: list[Any] = []
    shape: list[tuple[int, ...]] = []
    count = [-1]

    def exchange(_: Any, __: Any, output: Any) -> Any:
        count[0] += 1
        if count[0] != call:
            return None
        shape.append(tuple(output.shape))
        return _coded(output)

    def look(_: Any, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0])
        raise _Seen

    children = dict(module.named_modules())
    handles = [children[name].register_forward_hook(exchange), children[path].register_forward_pre_hook(look)]
    with suppress(_Seen):
        _run(module, inputs, handles)
    if not seen or not shape or getattr(seen[0], "is_meta", True) or seen[0].ndim != 2:
        return None
    order = _told(seen[0].double(), shape[0][1])
    wanted = getattr(children[path], "in_features", None)
    return None if order == "pooled" and wanted != seen[0].shape[1] else order


def _coded(output: torch.Tensor) -> torch.Tensor:
    """Two samples of this shape: one tells the channel, one the place, height before width."""
    import torch

    _, channels, height, width = output.shape
    with torch.device("cpu"):
        of_channels = torch.arange(channels).view(channels, 1, 1).expand(channels, height, width)
        of_places = torch.arange(height * width).view(1, height, width).expand(channels, height, width)
        return torch.stack([of_channels, of_places]).float() + _OFFSET


def _told(entering: torch.Tensor, channels: int) -> Order | None:
    if entering.shape[1] % channels:
        return None
    places = entering.shape[1] // channels
    if places == 1:  # nothing is left of height and width
        return "pooled" if bool((entering[0, 1:] > entering[0, :-1]).all()) else None
    orders: dict[Order, tuple[Any, Any]] = {
        "channels first": (entering[0].view(channels, places), entering[1].view(channels, places)),
        "channels last": (entering[0].view(places, channels).T, entering[1].view(places, channels).T),
    }
    for order, (by_channel, by_place) in orders.items():
        # Pooling averages places: what tells them still rises, and stays the same in every channel.
        same_channel = bool((by_channel == by_channel[:, :1]).all()) and bool((by_channel[1:, 0] > by_channel[:-1, 0]).all())
        rising = bool((by_place == by_place[:1]).all()) and bool((by_place[0, 1:] > by_place[0, :-1]).all())
        if same_channel and rising:
            return order
    return None


def _run(module: Any, inputs: tuple[Any, ...], handles: list[Any]) -> None:
    import torch

    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    try:
        with torch.no_grad(), torch.device("meta"):
            torch.func.functional_call(module, {name: to_meta(tensor) for name, tensor in named.items()}, inputs)
    finally:
        for handle in handles:
            handle.remove()
