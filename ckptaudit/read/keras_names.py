"""Names of Keras weights: readable, stable, and those that Keras itself uses wherever the file tells them.

Legacy H5 files hold the names of weights. A name here is the layer's name and what follows it in the weight's name:

=======================================  ======================  ===============================
layer (group)                            weight name             name here
=======================================  ======================  ===============================
``conv1``                                ``conv1/kernel:0``      ``conv1/kernel:0``
``conv1`` (built twice in one session)   ``conv1_3/kernel:0``    ``conv1/kernel:0``
``conv`` (Keras 3)                       ``seq/conv/kernel``     ``conv/kernel``
``model_1`` (a nested model)             ``conv2d_4/bias:0``     ``model_1/conv2d_4/bias:0``
``convolution2d_1`` (Keras 1)            ``convolution2d_1_W``   ``convolution2d_1/convolution2d_1_W``
=======================================  ======================  ===============================

Keras 3 weight files number variables (``layers/conv2d_1/vars/0``) by class. Each object's own name is told by the attribute ``name`` of its
``vars`` group, or by the config; without either the number by class stays (``conv2d_1``). The position becomes the name that the layer's
class gives to its variable (``kernel``), and stays a number where class and shapes do not tell.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.lazily import compiled_when_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COUNTER = compiled_when_used(r"_\d{1,300}\Z")

_NORM = ("gamma", "beta")
#: Variables of a layer's class, in the order in which Keras writes them: trainable ones first.
_VARIABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
        "SyncBatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
        "LayerNormalization": _NORM,
        "GroupNormalization": _NORM,
        "RMSNormalization": ("scale",),
        "Dense": ("kernel", "bias"),
        "EinsumDense": ("kernel", "bias"),
        "Conv1D": ("kernel", "bias"),
        "Conv2D": ("kernel", "bias"),
        "Conv3D": ("kernel", "bias"),
        "Conv1DTranspose": ("kernel", "bias"),
        "Conv2DTranspose": ("kernel", "bias"),
        "Conv3DTranspose": ("kernel", "bias"),
        "DepthwiseConv1D": ("kernel", "bias"),
        "DepthwiseConv2D": ("kernel", "bias"),
        "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel", "bias"),
        "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
        "Embedding": ("embeddings",),
        "LSTMCell": ("kernel", "recurrent_kernel", "bias"),
        "GRUCell": ("kernel", "recurrent_kernel", "bias"),
        "SimpleRNNCell": ("kernel", "recurrent_kernel", "bias"),
        "ConvLSTM1DCell": ("kernel", "recurrent_kernel", "bias"),
        "ConvLSTM2DCell": ("kernel", "recurrent_kernel", "bias"),
        "ConvLSTM3DCell": ("kernel", "recurrent_kernel", "bias"),
        "LSTM": ("kernel", "recurrent_kernel", "bias"),
        "GRU": ("kernel", "recurrent_kernel", "bias"),
        "PReLU": ("alpha",),
        "Normalization": ("mean", "variance", "count"),
        "SeedGenerator": ("seed_generator_state",),
    }
)


def snake_case(class_name: str) -> str:
    """A class's name as Keras writes it in paths: ``BatchNormalization`` → ``batch_normalization``, ``PReLU`` → ``p_re_lu``."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


@cache
def _classes() -> Mapping[str, str]:
    return {snake_case(name): name for name in (*_VARIABLES, "Functional", "Sequential", "Bidirectional")}


def class_of(segment: str) -> str:
    """The class that a segment such as ``conv2d_transpose_3`` stands for, or ``""``."""
    return _classes().get(segment) or _classes().get(_COUNTER.sub("", segment), "")


def legacy_names(layer: str, weights: Sequence[str]) -> list[str]:
    """Names for the weights of one layer of a legacy file, in the same order."""
    names = [f"{layer}/{'/'.join(_below(layer, weight))}" for weight in weights]
    if len(set(names)) < len(names):  # names that say no more than the layer's: its own groups tell the weights apart
        names = [f"{layer}/{weight}" for weight in weights]
    return names


def _below(layer: str, weight: str) -> list[str]:
    """What follows the layer's own name in a weight's name; all of it where the layer is not named."""
    parts, own = weight.split("/"), layer.split("/")
    for start in range(len(parts) - len(own)):
        named = parts[start : start + len(own)]
        if named[:-1] == own[:-1] and (named[-1] == own[-1] or _COUNTER.sub("", named[-1]) == own[-1]):
            return parts[start + len(own) :]
    return parts


def variable_names(class_name: str, shapes: Sequence[tuple[int, ...]], settings: Mapping[str, Any] | None = None) -> list[str]:
    """What a layer of Keras calls its variables, by their positions in the file."""
    known = list(_VARIABLES.get(class_name, ()))
    count = len(shapes)
    if "Normalization" in class_name and known and known[0] == "gamma":
        known = _normalization(known, shapes, settings)
    if not known:
        known = _by_shapes(shapes)
    return [known[position] if position < len(known) else str(position) for position in range(count)]


def _normalization(known: list[str], shapes: Sequence[tuple[int, ...]], settings: Mapping[str, Any] | None) -> list[str]:
    if settings is not None:
        absent = {word for key, word in (("scale", "gamma"), ("center", "beta")) if settings.get(key) is False}
        kept = [word for word in known if word not in absent]
        if len(kept) == len(shapes):
            return kept
    missing = len(known) - len(shapes)
    if missing == 1:
        # Without a config one cannot tell; a batch norm without scale is common (Inception), one without shift is not,
        # and of the other norms it is the shift that is left out.
        return [word for word in known if word != ("gamma" if len(known) == 4 else "beta")]
    return known[missing:] if missing == 2 and len(known) == 4 else known


def _by_shapes(shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Names for the variables of an unknown class, where shapes leave no doubt."""
    if len(shapes) == 4 and len(set(shapes)) == 1 and len(shapes[0]) == 1:
        return ["gamma", "beta", "moving_mean", "moving_variance"]
    if not shapes or len(shapes[0]) < 2:
        return []
    if len(shapes) == 1 or (len(shapes) == 2 and shapes[1] and shapes[1] == shapes[0][-len(shapes[1]) :] != shapes[0]):
        return ["kernel", "bias"]
    recurrent = len(shapes) in (2, 3) and len(shapes[0]) == len(shapes[1]) == 2 and shapes[0][1] == shapes[1][1]
    if recurrent and shapes[1][1] in (shapes[1][0], 3 * shapes[1][0], 4 * shapes[1][0]):
        return ["kernel", "recurrent_kernel", "bias"]
    return []


def unique(names: Iterable[str], fallbacks: Sequence[str]) -> list[str]:
    """``names``, each that stands twice replaced by its fallback."""
    listed = list(names)
    counted = Counter(listed)
    return [fallback if counted[name] > 1 else name for name, fallback in zip(listed, fallbacks, strict=True)]
