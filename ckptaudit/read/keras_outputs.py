"""What comes out of a Keras model, as its config tells it: the activation and the number of units of each output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ckptaudit.read.keras_config import LayerConfig, keras_history, read_model_config
from ckptaudit.records import dataclass

#: Layers behind the last activation that leave values as they are.
_PASSING = frozenset(
    {"Reshape", "Flatten", "Dropout", "Permute", "Cropping1D", "Cropping2D", "UpSampling2D", "Resizing", "GlobalAveragePooling2D"}
)
#: Layers that are activations, by the word for them.
_ACTIVATIONS = {"Softmax": "softmax", "ReLU": "relu", "LeakyReLU": "leaky_relu", "PReLU": "prelu", "ELU": "elu"}
_MAX_NESTED = 32


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One output of a model.

    Attributes
    ----------
    layer:
        Name of the layer that gives it.
    activation:
        The last activation on the way to it, ``linear`` where there is none, ``""`` where the config does not tell.
    units:
        Values for each place of the output; None where the config does not tell.
    """

    layer: str
    activation: str
    units: int | None


def model_outputs(raw: Mapping[str, Any]) -> tuple[ModelOutput, ...]:
    """The outputs of a model, in its order; empty where its config is of no kind that lists layers."""
    config = read_model_config(raw)
    inner = raw.get("config")
    settings: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    return tuple(_outputs(config.layers, settings, 0))


def _outputs(layers: tuple[LayerConfig, ...], settings: Mapping[str, Any], depth: int) -> Iterator[ModelOutput]:
    if not layers or depth > _MAX_NESTED:
        return
    by_name = {layer.name: (position, layer) for position, layer in enumerate(layers)}
    if "output_layers" not in settings:  # a Sequential model
        yield from _of_layer(layers[-1], layers, by_name, sequential=True, depth=depth)
        return
    for name, _, _ in keras_history(settings["output_layers"]):
        if name in by_name:
            yield from _of_layer(by_name[name][1], layers, by_name, sequential=False, depth=depth)


def _of_layer(
    layer: LayerConfig, layers: tuple[LayerConfig, ...], by_name: Mapping[str, tuple[int, LayerConfig]], *, sequential: bool, depth: int
) -> Iterator[ModelOutput]:
    """Go back from the layer that gives the output to the one that makes its values."""
    output, activation = layer.name, ""
    seen: set[str] = set()
    while layer.name not in seen:
        seen.add(layer.name)
        if layer.is_model:
            for inner in _outputs(layer.children, layer.settings, depth + 1):
                yield ModelOutput(output, activation or inner.activation, inner.units)
            return
        own = _ACTIVATIONS.get(layer.class_name) or _word(layer.settings.get("activation"))
        if not activation and own not in ("", "linear"):
            activation = own
        units = layer.settings.get("units", layer.settings.get("filters"))
        if type(units) is int:
            yield ModelOutput(output, activation or own or "linear", units)
            return
        passing = layer.class_name in _PASSING or layer.class_name in _ACTIVATIONS or layer.class_name == "Activation"
        before = _before(layer, layers, by_name, sequential) if passing else None
        if before is None:
            break
        layer = before
    yield ModelOutput(output, activation, None)


def _before(
    layer: LayerConfig, layers: tuple[LayerConfig, ...], by_name: Mapping[str, tuple[int, LayerConfig]], sequential: bool
) -> LayerConfig | None:
    """The one layer that feeds this one."""
    if sequential:
        position = by_name[layer.name][0]
        return layers[position - 1] if position else None
    names = {name for name, _, _ in keras_history(layer.raw.get("inbound_nodes"))}
    return by_name[names.pop()][1] if len(names) == 1 and names <= by_name.keys() else None


def _word(activation: Any) -> str:
    """The name of an activation in any dialect."""
    if isinstance(activation, dict):
        inner = activation.get("config")
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    return activation.lower()[:40] if isinstance(activation, str) else ""
