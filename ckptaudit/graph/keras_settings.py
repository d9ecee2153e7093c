"""Settings of a Keras layer that shapes do not show, under the words that torch uses for them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT = 300

_SETTINGS = MappingProxyType(
    {
        "epsilon": "eps",
        "momentum": "momentum",
        "strides": "stride",
        "padding": "padding",
        "dilation_rate": "dilation",
        "groups": "groups",
        "activation": "activation",
        "recurrent_activation": "recurrent_activation",
        "reset_after": "reset_after",
        "data_format": "data_format",
        "axis": "axis",
        "use_bias": "bias",
        "scale": "scale",
        "center": "center",
        "depth_multiplier": "depth_multiplier",
        "rate": "p",
        "pool_size": "kernel_size",
        "kernel_size": "kernel_size",
        "negative_slope": "negative_slope",
        "alpha": "negative_slope",
        "trainable": "trainable",
        "go_backwards": "go_backwards",
        "return_sequences": "return_sequences",
    }
)


#: What is kept as it is; bool is an int. A tuple, since a union would be made anew for each of thousands of values.
_SIMPLE = (int, float, str)


def keras_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a layer's ``config`` that matter to a comparison, as numbers, words and short tuples."""
    kept: dict[str, Any] = {}
    for key, word in _SETTINGS.items():
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, dict):
            value = value.get("config") if value.get("class_name") == "function" else value.get("class_name")
        if isinstance(value, (list, tuple)):
            if len(value) <= 8 and all(isinstance(item, _SIMPLE) for item in value):
                kept[word] = tuple(value)
        elif isinstance(value, _SIMPLE):
            kept[word] = value if not isinstance(value, str) else value[:MAX_TEXT]
    return MappingProxyType(kept)
