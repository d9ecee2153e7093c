"""Keras: every architecture of ``keras.applications``."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.keras_settings import user_settings
from ckptaudit.arch.libraries import missing_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

RANK = 30
LIBRARY = "keras"
BUILT_ON = ()

#: The parameter that asks for weights.
WEIGHTS = ("weights",)

CLASSES = "classes"
CHANNELS = None


def names() -> Collection[str]:
    """Every model of ``keras.applications``, read off the file that lists them: importing Keras takes seconds."""
    found = find_spec("keras")
    if found is None or found.origin is None:
        raise missing_library("keras", extra="keras")
    try:
        tree = ast.parse(Path(found.origin).parent.joinpath("applications", "__init__.py").read_bytes())
    except (OSError, SyntaxError, ValueError):
        listed = dir(_keras().applications)
    else:
        listed = [alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return [name for name in listed if name[0].isupper()]  # its functions are called like classes, its modules are not


def family(name: str) -> str:
    """What the relatives of ``name`` have in common: the module that defines them."""
    return str(getattr(_keras().applications, name).__module__.rpartition(".")[2])


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file could hold instead of ``name``, the closest name first: what the same module defines."""
    return ((other, arguments) for other in by_closeness(name, (other for other in names() if family(other) == family(name))))


def is_configured() -> bool:
    """Whether ``keras.json``, or the calling program, makes Keras put channels first or compute in another precision."""
    settings = user_settings()
    config = getattr(sys.modules.get("keras"), "config", None)
    return any(
        (getattr(config, key)() if hasattr(config, key) else settings.get(key, usual)) != usual
        for key, usual in (("image_data_format", "channels_last"), ("floatx", "float32"))
    )


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build one of them, always without weights.

    Raises
    ------
    ArchitectureError
        An argument asks for weights or is none of the model's, or the model cannot be built on Keras' backend.
    """
    from ckptaudit.arch.attempts import first_that_works
    from ckptaudit.arch.keras_build import keras_ways, session_of_its_own
    from ckptaudit.arch.keras_model import keras_graph

    keras = _keras()
    label = f"keras:{name}"
    given = without_weights(arguments, WEIGHTS, label)
    builder = getattr(keras.applications, name)
    with session_of_its_own():
        attempt = first_that_works(lambda: lambda: builder(weights=None, **given), label, keras_ways)
        graph = keras_graph(attempt.made, label, attempt.notes)
    return Model(
        arch=name,
        source="keras",
        graph=graph,
        module=attempt.made,
        library_version=str(keras.__version__),
        arguments=dict(arguments),
        call=format_call(f"keras.applications.{name}", {"weights": None, **given}),
        preprocessing=_preprocessing(builder, attempt.made),
    )


def _keras() -> Any:
    from ckptaudit.arch.keras_build import import_keras

    return import_keras()


def _preprocessing(builder: Any, model: Any) -> Preprocessing | None:
    """Size of the input, and what the ``preprocess_input`` beside the builder does.

    No attribute tells that: it is read off what becomes of a black, a red, a green and a blue pixel. A model that scales by itself, as
    EfficientNet does, has one that does nothing.
    """
    import numpy

    preprocess = getattr(sys.modules[builder.__module__], "preprocess_input", None)
    if preprocess is None or len(model.input_shape) != 4:
        return None
    pixels = numpy.concatenate([numpy.zeros((1, 3)), 255 * numpy.eye(3)]).astype("float32")[None, :, None]
    black, *colours = numpy.asarray(preprocess(pixels, data_format="channels_last"))[0, :, 0]
    steps = (numpy.array(colours) - black) / 255  # by colour of the pixel, and channel of the output
    flipped = bool(steps[0, 0] == 0)
    factors = steps.max(0)
    scale = 1.0 if numpy.allclose(factors, 1) else 1 / 255
    std = scale / factors
    channels_last = model.input_shape[-1] == 3
    height, width = model.input_shape[1:3] if channels_last else model.input_shape[2:]
    return Preprocessing(
        source=f"{builder.__module__.replace('.src.', '.')}.preprocess_input",
        size=None if height is None or width is None else (int(height), int(width)),
        channels="BGR" if flipped else "RGB",
        layout="NHWC" if channels_last else "NCHW",
        scale=scale,
        # Keras computes in single precision, and states five digits.
        mean=tuple(abs(round(float(value), 5)) for value in -black * std),
        std=tuple(round(float(value), 5) for value in std),
    )
