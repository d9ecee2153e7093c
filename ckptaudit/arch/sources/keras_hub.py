"""keras_hub: any of its model classes, or what the ``config.json`` or ``task.json`` of a preset describes; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.config_files import config_file, is_config, read_config
from ckptaudit.arch.libraries import MissingLibraryError, import_library, is_installed
from ckptaudit.arch.model import Model
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Its classes are asked for as ``keras_hub:…`` alone.
RANK = None
LIBRARY = "keras_hub"
BUILT_ON = ("keras",)
#: What names a preset, which would be downloaded.
WEIGHTS = ("preset", "load_weights")

CLASSES = "num_classes"
CHANNELS = None

#: Modules of Keras whose objects a config may name beside models and layers: none of them runs code or opens a file.
_HARMLESS = frozenset({"keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.regularizers"})


def names() -> Collection[str]:
    """Every model class; a path that ends in ``.json``, or the folder of a preset, is among them too."""
    return _Names(_keras_hub())


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Nothing: a config is one of many."""
    yield from ()


def files(name: str) -> list[Path]:
    """The file that decides what is built."""
    return [config_file(name)] if is_config(name) else []


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build a model from its config, without weights.

    Parameters
    ----------
    name:
        A model class (``ResNetBackbone``); a ``config.json`` or ``task.json``; the folder of a preset, of which ``config.json`` is taken.
    arguments:
        Arguments of the class; of a config, what it is to say otherwise (``num_classes=10``).

    Raises
    ------
    ArchitectureError
        There is no such file or class, the config names anything but models and layers of keras_hub and what Keras initialises these
        with, or the model cannot be built.
    """
    from ckptaudit.arch.attempts import first_that_works
    from ckptaudit.arch.keras_build import import_keras, keras_ways, session_of_its_own
    from ckptaudit.arch.keras_model import keras_graph

    hub, keras = _keras_hub(), import_keras()
    label = f"keras_hub:{name}"
    given = without_weights(arguments, WEIGHTS, label)
    if is_config(name):
        config = _stored_config(config_file(name), label)
        config["config"] = {**config["config"], **given, **({"preprocessor": None} if "preprocessor" in config["config"] else {})}
        _refuse_others(config, hub, keras, label)
        call = f"keras.saving.deserialize_keras_object(json.load(open({str(config_file(name))!r})))"

        def factory() -> object:
            return keras.saving.deserialize_keras_object(json.loads(json.dumps(config)), safe_mode=True)
    else:
        call = format_call(f"keras_hub.models.{name}", given)

        def factory() -> object:
            return getattr(hub.models, name)(**given)

    with session_of_its_own():
        attempt = first_that_works(lambda: factory, label, keras_ways)
        graph = keras_graph(attempt.made, label, attempt.notes)
    return Model(
        arch=name,
        source="keras_hub",
        graph=graph,
        module=attempt.made,
        library_version=str(hub.__version__),
        arguments=dict(arguments),
        call=call,
    )


class _Names(Collection[str]):
    def __init__(self, hub: Any) -> None:
        self._hub = hub

    def __contains__(self, name: object) -> bool:
        return is_config(str(name)) or str(name) in list(self)

    def __iter__(self) -> Iterator[str]:
        models = self._hub.models
        # A class without a constructor of its own is one to inherit from.
        return (name for name in dir(models) if _is_model(getattr(models, name)) and name not in ("Backbone", "Task"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_model(cls: Any) -> bool:
    from ckptaudit.arch.keras_build import import_keras

    return isinstance(cls, type) and issubclass(cls, import_keras().Model)


def _stored_config(path: Path, label: str) -> dict[str, Any]:
    content = read_config(path, label)
    if not isinstance(content.get("class_name"), str) or not isinstance(content.get("config"), dict):
        raise ArchitectureError(f"{label}: the file is no config of keras_hub: it names no class_name with a config")
    return content


def _refuse_others(config: Any, hub: Any, keras: Any, label: str) -> None:
    """Refuse a config that names anything but models and layers of keras_hub, and what Keras initialises and constrains them with."""
    todo = [config]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            name, module = value.get("class_name"), value.get("module")
            if name is not None and not _known(str(name), str(module), hub, keras):
                raise ArchitectureError(f"{label}: not built: its config names `{module}.{name}`, which is no model of keras_hub")
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    cls = getattr(hub.models, config["class_name"], None)
    if not _is_model(cls):
        raise ArchitectureError(f"{label}: this keras_hub has no model {config['class_name']!r}")


def _known(name: str, module: str, hub: Any, keras: Any) -> bool:
    if module in _HARMLESS:
        return True
    if module == "keras":
        return name.endswith("DTypePolicy") or name == "DTypePolicyMap"
    if module.partition(".")[0] != "keras_hub":
        return False
    layer = getattr(hub.layers, name, None)
    return _is_model(getattr(hub.models, name, None)) or (isinstance(layer, type) and issubclass(layer, keras.layers.Layer))


def _keras_hub() -> Any:
    from ckptaudit.arch.keras_build import import_keras

    if not is_installed("keras_hub"):
        # Its own requirements hold TensorFlow, so that no extra of this package installs it.
        raise MissingLibraryError("keras_hub is not installed; run: pip install keras-hub")
    import_keras()  # with a backend that is there
    return import_library("keras_hub", extra="keras")
