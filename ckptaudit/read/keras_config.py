"""What a Keras file says of its model in JSON: classes, settings, dataflow, training. Nothing of it is turned into objects.

The configs of Keras 1, 2, tf.keras and 3 differ in how they spell the edges of a functional model; that is all that is told apart here.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.graph.keras_settings import MAX_TEXT, keras_settings
from ckptaudit.read.checkpoint import Remark
from ckptaudit.read.keras_layers import LAYERS
from ckptaudit.read.strict_json import parse
from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_CONFIG = 64 << 20

_MAX_VALUES = 2_000_000
_MAX_NESTED = 32
_MAX_WORK = 2_000_000
_MAX_REMARKS = 10
_MAX_ITEMS = 50

#: Classes of Keras itself that run code, or open a file, that the config carries or names.
_RUNNING = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"})
_CARRIERS = MappingProxyType(
    {
        "TorchModuleWrapper": "which unpickles a torch module",
        "TFSMLayer": "which loads a SavedModel from a path",
        "JaxLayer": "which unpickles a function",
        "FlaxLayer": "which unpickles a module",
    }
)
#: Layers that read their vocabulary from a file where the config gives a path or an address instead of a list.
_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization", "Hashing", "Discretization"})
_KERAS_ROOTS = ("keras", "tf_keras", "tensorflow", "keras_hub", "keras_nlp", "keras_cv", "builtins")
#: Where Keras keeps functions that a config may name without harm.
_FUNCTION_HOMES = frozenset({"activations", "losses", "metrics", "initializers", "regularizers", "constraints"})
#: Where Keras keeps what is no part of a model: loaders, downloaders, exporters.
_FOREIGN_HOMES = frozenset({"utils", "saving", "config", "export", "datasets", "callbacks", "backend", "wrappers"})
_OWN = LAYERS | _RUNNING | _LOOKUPS
_CONTAINERS = frozenset({"Sequential", "Functional", "Model"})

#: What is known of one layer: the paths of its weights' owners that its output depends on.
Sources = frozenset[str]


@dataclass(frozen=True, eq=False)
class LayerConfig:
    """One layer of a model's config.

    Attributes
    ----------
    name:
        The layer's name within its model.
    path:
        Names from the outermost model on, ``/`` between them.
    class_name:
        As the config spells it.
    settings:
        Its ``config``, as it is.
    children:
        Layers of a nested model, or the one that a wrapper wraps.
    """

    name: str
    path: str
    class_name: str
    settings: Mapping[str, Any]
    raw: Mapping[str, Any]
    children: tuple[LayerConfig, ...] = ()

    @property
    def is_model(self) -> bool:
        """Whether it is a model with layers of its own."""
        return isinstance(self.settings.get("layers"), list)

    def attributes(self) -> Mapping[str, Any]:
        """Settings that matter to a comparison, as numbers, words and short tuples."""
        return keras_settings(self.settings)


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """A model's own description of itself."""

    raw: Mapping[str, Any]
    class_name: str
    name: str
    layers: tuple[LayerConfig, ...]
    remarks: tuple[str, ...] = ()

    def every_layer(self) -> Iterator[LayerConfig]:
        """All layers, nested ones after the one that holds them."""
        todo = list(reversed(self.layers))
        while todo:
            layer = todo.pop()
            yield layer
            todo.extend(reversed(layer.children))


def parse_config(text: str | bytes, what: str, remark: Callable[[str], None]) -> dict[str, Any] | None:
    """A config as JSON; None, and a remark, when it is not.

    What the weights are called does not depend on it, so that a damaged config is no reason to refuse a file.
    """
    content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if len(content) > MAX_CONFIG:
        remark(f"{what} of {len(content):,} bytes is not read")
        return None

    class _Unusable(Exception):  # noqa: N818 - never leaves this function
        pass

    try:
        return parse(content, _Unusable)
    except _Unusable as error:
        remark(f"{what} {error}; layers are named without it")
        return None


def read_model_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Find the layers in a model's config, and what loading it would run."""
    remarks = tuple(Remark(words, "keras-code") for words in _dangers(raw))
    inner = raw.get("config")
    settings: Mapping[str, Any] = inner if isinstance(inner, dict) else {"layers": inner} if isinstance(inner, list) else {}
    name = settings.get("name")
    budget = [_MAX_VALUES]
    layers = tuple(_layers(settings.get("layers"), "", budget, 0))
    found = ModelConfig(raw, _text(raw.get("class_name")), _text(name), layers, remarks)
    return replace(found, remarks=(*remarks, *(Remark(words, "keras-code") for words in _strangers(found))))


def _layers(listed: Any, above: str, budget: list[int], depth: int) -> Iterator[LayerConfig]:
    if not isinstance(listed, list) or depth > _MAX_NESTED:
        return
    for raw in listed:
        budget[0] -= 1
        if budget[0] < 0:
            return
        layer = _layer(raw, above, budget, depth)
        if layer is not None:
            yield layer


def _layer(raw: Any, above: str, budget: list[int], depth: int) -> LayerConfig | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("class_name"), str):
        return None
    given = raw.get("config")
    settings: Mapping[str, Any] = given if isinstance(given, dict) else {"layers": given} if isinstance(given, list) else {}
    name = _text(settings.get("name")) or _text(raw.get("name"))
    path = f"{above}/{name}" if above else name
    if isinstance(settings.get("layers"), list):
        children = tuple(_layers(settings["layers"], path, budget, depth + 1))
    else:
        wrapped = [settings[key] for key in ("layer", "cell", "backward_layer") if isinstance(settings.get(key), dict)]
        children = tuple(_layers(wrapped, path, budget, depth + 1))
    return LayerConfig(name, path, raw["class_name"].rpartition(">")[2], settings, raw, children)


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _strangers(model: ModelConfig) -> Iterator[str]:
    """A line for the layer classes that Keras does not have, where the config does not say where they come from, as older ones do not."""
    found: dict[str, None] = {}
    for layer in model.every_layer():
        told = layer.raw.get("module") is not None or ">" in f"{layer.raw['class_name']}{layer.raw.get('registered_name')}"
        if not told and not layer.is_model and layer.class_name not in _OWN:
            found[layer.class_name[:100]] = None
    if found:
        more = f" and {len(found) - _MAX_REMARKS:,} more" if len(found) > _MAX_REMARKS else ""
        kinds = "the layer class" if len(found) == 1 else "the layer classes"
        yield f"its config names {kinds} {', '.join(map(repr, list(found)[:_MAX_REMARKS]))}{more}, which Keras does not have: custom code"


def _dangers(raw: Mapping[str, Any]) -> Iterator[str]:
    """One line for each thing that rebuilding the model from its config would run or import."""
    found: dict[str, None] = {}
    todo: deque[dict[str, Any] | list[Any]] = deque([dict(raw)])
    left = _MAX_VALUES
    while todo and left > 0:
        value = todo.popleft()
        left -= 1 + len(value)
        words = _danger(value) if isinstance(value, dict) and "class_name" in value else ""
        if words:
            found[words] = None
        for item in value.values() if isinstance(value, dict) else value:
            kind = type(item)  # JSON has no subclasses, and configs have many values
            if kind is dict or kind is list:
                todo.append(item)
            elif kind is str and ">" in item and item[:9].lower() == "builtins>":
                found[f"its config names {item[:100]!r}, which is not imported"] = None
    if todo:
        yield f"its config of more than {_MAX_VALUES:,} values is too large to be looked through"
    yield from list(found)[:_MAX_REMARKS]
    if len(found) > _MAX_REMARKS:
        yield f"its config holds {len(found) - _MAX_REMARKS:,} more things that rebuilding it would run or import"


def _danger(value: Mapping[str, Any]) -> str:
    kind, module, given = value.get("class_name"), value.get("module"), value.get("config")
    if not isinstance(kind, str):
        return ""
    last = kind.rpartition(">")[2].rpartition(".")[2]
    settings: Mapping[str, Any] = given if isinstance(given, dict) else {}
    name = _text(settings.get("name")) or _text(value.get("name"))
    called = f" {name!r}" if name else ""
    if last in ("Lambda", "__lambda__"):
        return f"its config holds a Lambda layer{called}: code that Keras would run, and that was not looked at"
    if last in _RUNNING:
        return f"its config holds a {last}{called}, {_CARRIERS[last]}; it was not"
    words = settings.get("vocabulary")
    if last in _LOOKUPS and isinstance(words, str):
        return f"its config holds a {last}{called}, which opens the file {words[:200]!r}; it was not"
    parts = module.split(".") if isinstance(module, str) else []
    home = next((part for part in parts[1:] if part not in ("src", "api", "_tf_keras", "keras", "python", "legacy")), "")
    if home == "backend" and "optimizers" in parts:
        home = "optimizers"  # of which each backend has its own: keras.src.backend.torch.optimizers.torch_adam
    if kind == "function":
        target = given if isinstance(given, str) else _text(settings.get("name"))
        if parts and not (parts[0] in _KERAS_ROOTS and parts[0] != "builtins" and home in _FUNCTION_HOMES):
            return f"its config names the function {f'{module}.{target}'[:200]!r}, which was not imported"
        return ""
    if parts and (
        parts[0] not in _KERAS_ROOTS or home in _FOREIGN_HOMES or (kind not in _BUILTINS if parts[0] == "builtins" else kind[:1].islower())
    ):
        return f"its config names the class {f'{module}.{kind}'[:200]!r}, which was not imported"
    registered = value.get("registered_name")
    custom = registered if isinstance(registered, str) and ">" in registered else kind if ">" in kind else ""
    if custom and custom.partition(">")[0] not in ("keras", "Keras", "keras_hub", "keras_nlp", "keras_cv", "tf"):
        return f"its config holds the custom object {custom[:200]!r}, which was not imported"
    return ""


_BUILTINS = frozenset({"slice", "tuple", "range", "complex", "__ellipsis__", "__tuple__", "__bytes__", "dict", "list", "set"})


def training_summary(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Optimizer, loss and metrics of a training (or compile) config, in a few values."""
    summary: dict[str, Any] = {}
    optimizer = raw.get("optimizer_config", raw.get("optimizer"))
    if isinstance(optimizer, dict):
        summary["optimizer"] = reduced(optimizer.get("class_name"))
        settings = optimizer.get("config")
        if isinstance(settings, dict):
            rate = settings.get("learning_rate", settings.get("lr"))
            summary["learning_rate"] = reduced(rate)
    elif optimizer is not None:
        summary["optimizer"] = reduced(optimizer)
    for key in ("loss", "metrics", "loss_weights"):
        if raw.get(key) is not None:
            summary[key] = reduced(raw[key])
    return summary


def reduced(value: Any, levels: int = 4) -> Any:
    """A JSON value within bounds."""
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, dict):
        if levels <= 0:
            return "…"
        return {key[:MAX_TEXT]: reduced(item, levels - 1) for key, item in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, list):
        return [reduced(item, levels - 1) for item in value[:_MAX_ITEMS]] if levels > 0 else "…"
    if isinstance(value, int) and abs(value) >= 2**64:
        return f"an integer of {value.bit_length():,} bits"
    return value


def model_summary(config: ModelConfig) -> dict[str, Any]:
    """What a report shows of a model's config."""
    summary: dict[str, Any] = {"class": config.class_name, "name": config.name, "layers": len(config.layers)}
    shapes = [layer.settings.get("batch_input_shape", layer.settings.get("batch_shape")) for layer in config.layers]
    inputs = [reduced(shape) for shape in shapes if isinstance(shape, list)]
    if inputs:
        summary["inputs"] = inputs[:_MAX_ITEMS]
    return summary


# --- dataflow -----------------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Flow:
    """Collects edges between paths that own weights; layers without weights pass on what they get."""

    owners: Mapping[str, tuple[str, ...]]
    edges: dict[tuple[str, str], None] = field(default_factory=dict)
    left: int = _MAX_WORK

    def through(self, layer: LayerConfig, inputs: list[Sources], depth: int) -> list[Sources]:
        """What each output of a layer depends on."""
        if layer.is_model and layer.children and depth < _MAX_NESTED:
            return self.model(layer.children, layer, inputs, depth + 1)
        merged: Sources = frozenset().union(*inputs)
        self.left -= 1 + len(merged)
        owned = self.owners.get(layer.path, ())
        if not owned:
            return [merged]
        self.left -= len(owned) * len(merged)
        if self.left > 0:
            self.edges.update(((producer, path), None) for path in owned for producer in sorted(merged) if producer != path)
        return [frozenset(owned)]

    def model(self, layers: Iterable[LayerConfig], holder: LayerConfig | None, inputs: list[Sources], depth: int) -> list[Sources]:
        settings = holder.settings if holder is not None else {}
        layers = list(layers)
        if holder is not None and "input_layers" not in settings and "output_layers" not in settings:
            return self._sequence(layers, inputs, depth)
        calls = {(layer.name, position): (layer, wanted) for layer in layers for position, wanted in _calls(layer)}
        given = dict(zip(_keys(settings.get("input_layers")), inputs, strict=False))
        done: dict[tuple[str, int], list[Sources]] = {}
        waiting: dict[tuple[str, int], list[tuple[str, int]]] = {}
        open_inputs: dict[tuple[str, int], int] = {}
        ready: deque[tuple[str, int]] = deque()
        for key, (_, wanted) in calls.items():
            needs = {(name, node) for name, node, _ in wanted if (name, node) in calls}
            open_inputs[key] = len(needs)
            for need in needs:
                waiting.setdefault(need, []).append(key)
            if not needs:
                ready.append(key)
        while ready and self.left > 0:
            key = ready.popleft()
            layer, wanted = calls[key]
            got = [_pick(done[name, node], tensor) for name, node, tensor in wanted if (name, node) in done]
            done[key] = [given[key]] if key in given and not got else self.through(layer, got, depth)
            for later in waiting.get(key, ()):
                open_inputs[later] -= 1
                if not open_inputs[later]:
                    ready.append(later)
        outputs = [
            _pick(done[name, node], tensor) for name, node, tensor in keras_history(settings.get("output_layers")) if (name, node) in done
        ]
        return outputs or [frozenset()]

    def _sequence(self, layers: list[LayerConfig], inputs: list[Sources], depth: int) -> list[Sources]:
        for layer in layers:
            if self.left <= 0:
                break
            if layer.class_name != "InputLayer":
                inputs = self.through(layer, inputs, depth)
        return inputs


def dataflow(config: ModelConfig, owners: Mapping[str, tuple[str, ...]]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Which owners of weights feed which, and why it is not known (or ``""``).

    Parameters
    ----------
    config:
        The model.
    owners:
        For each layer's path the paths that own its weights; a layer that is absent has none.
    """
    given = config.raw.get("config")
    settings: Mapping[str, Any] = given if isinstance(given, dict) else {"layers": given}
    holder = LayerConfig("", "", config.class_name, settings, config.raw, config.layers)
    flow = _Flow(owners)
    try:
        flow.model(config.layers, holder, [], 0)
    except RecursionError:
        return (), "models are nested too deep"
    if flow.left <= 0:
        return (), "it has too many edges"
    return tuple(flow.edges), ""


def _calls(layer: LayerConfig) -> Iterator[tuple[int, list[tuple[str, int, int]]]]:
    """Each call of a layer: its number, and the tensors that it gets, as (layer, call, output)."""
    nodes = layer.raw.get("inbound_nodes")
    if not isinstance(nodes, list) or not nodes:
        yield 0, []
        return
    for position, node in enumerate(nodes):
        yield position, keras_history(node)


def keras_history(value: Any) -> list[tuple[str, int, int]]:
    """Every reference to a tensor within ``value``, in any dialect.

    Keras 3 spells ``{"class_name": "__keras_tensor__", "config": {"keras_history": ["conv1", 0, 0]}}``, the others ``["conv1", 0, 0]`` or
    ``["conv1", 0, 0, {keyword arguments}]``.
    """
    found: list[tuple[str, int, int]] = []
    todo = deque([value])
    left = 20_000
    while todo and left:
        left -= 1
        item = todo.popleft()
        if isinstance(item, list):
            if 3 <= len(item) <= 4 and isinstance(item[0], str) and type(item[1]) is int and type(item[2]) is int:
                found.append((item[0], item[1], item[2]))
                todo.extend(item[3:])
            else:
                todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item.values())
    return found


def _keys(value: Any) -> list[tuple[str, int]]:
    return [(name, node) for name, node, _ in keras_history(value)]


def _pick(outputs: list[Sources], position: int) -> Sources:
    return outputs[position] if 0 <= position < len(outputs) else frozenset().union(*outputs)
