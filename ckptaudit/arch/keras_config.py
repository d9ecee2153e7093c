"""``--arch self``: the model that a Keras file describes, rebuilt by Keras from that description, without running anything of the file's.

Whoever asks has looked for code in it (``pipeline.model_of_own_config``); layers that are not Keras' own are refused here, and its safe
mode is on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.attempts import first_that_works
from ckptaudit.arch.keras_build import import_keras, recorded_layers, session_of_its_own, without_values
from ckptaudit.arch.keras_model import keras_graph
from ckptaudit.arch.model import SELF, Model
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from ckptaudit.arch.keras_build import Made

_MODELS = frozenset({"Functional", "Sequential", "Model"})


def rebuild(config: Mapping[str, Any], classes: Mapping[str, str], *, real: bool = False) -> Model:
    """Rebuild the model that a file describes.

    Parameters
    ----------
    config:
        The description, which was looked through for code.
    classes:
        Class names of all its layers, by path.
    real:
        Give its variables values, to restore into it or to run it.

    Raises
    ------
    ArchitectureError
        A layer is none of Keras' own, or Keras cannot follow the description.
    """
    keras = import_keras()
    for path, name in classes.items():
        # A class that is named without its module is looked up by Keras among more than its layers.
        known = getattr(keras.layers, name, None)
        if name not in _MODELS and not (isinstance(known, type) and issubclass(known, keras.layers.Layer)):
            raise ArchitectureError(f"{SELF}: not rebuilt: `{path}` is a {name}, which is no layer of Keras {keras.__version__}")

    def ways() -> Iterator[tuple[str, AbstractContextManager[Made]]]:
        # What a file asks for is built for real only by request: it may be of any size.
        yield ("real", recorded_layers()) if real else ("stateless", without_values())

    with session_of_its_own():
        attempt = first_that_works(lambda: lambda: _rebuilt(config, keras), SELF, ways)
        graph = keras_graph(attempt.made, SELF)  # no line of anyone's code made its layers
    return Model(arch=SELF, source=SELF, graph=graph, module=attempt.made, library_version=str(keras.__version__))


def _without_training(value: Any) -> Any:
    """A copy, which Keras may take apart, without losses, optimizers and metrics."""
    if isinstance(value, Mapping):
        return {key: _without_training(item) for key, item in value.items() if key != "compile_config"}
    return [_without_training(item) for item in value] if isinstance(value, list) else value


def _rebuilt(config: Mapping[str, Any], keras: Any) -> Any:
    given = _without_training(config)
    if "module" in given or "registered_name" in given:
        return keras.saving.deserialize_keras_object(given, safe_mode=True)
    # What wrote H5 files until Keras 3, and what Keras 3 reads of them, is behind no public function that takes a config.
    saving = sys.modules.get("keras.src.legacy.saving.saving_utils")
    options = sys.modules.get("keras.src.legacy.saving.saving_options")
    library = sys.modules.get("keras.src.saving.serialization_lib")
    if saving is None or options is None or library is None:
        raise ArchitectureError(f"{SELF}: Keras {keras.__version__} does not read configs of this age")
    with ExitStack() as scopes:
        scopes.enter_context(options.keras_option_scope(use_legacy_config=True))
        scopes.enter_context(library.SafeModeScope(True))
        return saving.model_from_config(given, custom_objects={})
