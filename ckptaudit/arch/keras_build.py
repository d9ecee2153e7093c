"""Keras: imported with a backend that is there, and building its models without allocating their weights.

Within Keras' own ``StatelessScope`` a variable is a shape, whatever the backend: it would be given its values when the scope is left, and
is told not to.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.attempts import calling_line
from ckptaudit.arch.keras_settings import user_settings
from ckptaudit.arch.libraries import MissingLibraryError, import_library, is_installed
from ckptaudit.arch.torch_build import is_for_real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ckptaudit.graph import Origin

    #: By ``id`` of a layer: the layer itself, so that its id stays its own, and the line that made it.
    Made = dict[int, tuple[Any, Origin | None]]

#: Backends by what must be installed for them, in the order in which they are taken where none is configured that is there.
_BACKENDS = ("tensorflow", "torch", "jax", "openvino")


def import_keras() -> Any:
    """Import Keras, with the first backend that is installed where the configured one is not.

    Raises
    ------
    MissingLibraryError
        Keras or every backend is missing.
    ArchitectureError
        It is installed, but cannot be imported.
    """
    if is_installed("keras") and "keras" not in sys.modules and not _said_by_user() and _usable() is None:
        raise MissingLibraryError("keras needs torch, jax or tensorflow to run on; run: pip install 'ckptaudit[keras]'")
    with usable_backend():
        return import_library("keras", extra="keras")


@contextmanager
def usable_backend() -> Iterator[None]:
    """While the block imports Keras, let it take a backend that is installed. What the user says in ``KERAS_BACKEND`` is left alone."""
    chosen = None if "keras" in sys.modules or _said_by_user() else _usable()
    if chosen is None:
        yield
        return
    os.environ["KERAS_BACKEND"] = chosen
    try:
        yield
    finally:
        os.environ.pop("KERAS_BACKEND", None)


def _said_by_user() -> bool:
    return bool(os.environ.get("KERAS_BACKEND"))


def _usable() -> str | None:
    return next((name for name in (_configured(), *_BACKENDS) if name and is_installed(name)), None)


def _configured() -> str | None:
    """The backend of ``keras.json``, which Keras writes itself when it is first imported: it may be one that is not installed."""
    told = user_settings().get("backend")
    return told if told in _BACKENDS else None


def keras_ways() -> Iterator[tuple[str, AbstractContextManager[Made]]]:
    """Yield the ways to build a Keras model, from the cheapest to the surest; each notes which line made each layer."""
    if not is_for_real():
        yield "stateless", without_values()
    yield "real", recorded_layers()


@contextmanager
def without_values() -> Iterator[Made]:
    """Give variables no memory while the block builds a model."""
    with sys.modules["keras"].StatelessScope(initialize_variables=False), recorded_layers() as made:
        yield made


@contextmanager
def recorded_layers() -> Iterator[Made]:
    """Record which line outside of Keras' machinery makes each layer, until the block is left; ``keras.applications`` are outside of it."""
    layer_class = sys.modules["keras"].Layer
    library = str(Path(str(sys.modules["keras"].__file__)).parent)
    applications = str(Path(library, "src", "applications"))
    original = layer_class.__init__
    made: Made = {}

    @functools.wraps(original)
    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        line = calling_line(lambda file: file.startswith(library) and not file.startswith(applications))
        made.setdefault(id(self), (self, line))
        original(self, *args, **kwargs)

    # There is no hook for this, as torch has one.
    layer_class.__init__ = remember
    try:
        yield made
    finally:
        layer_class.__init__ = original


@contextmanager
def session_of_its_own() -> Iterator[None]:
    """Let names of layers begin at ``conv2d`` as in a new process, and leave those of the calling program as they are.

    Keras counts in an object that ``keras.utils.clear_session`` replaces; here it is replaced for a while. What was built meanwhile is also
    forgotten there: variables without values are not given any later.
    """
    before, config = _tracker(), _config()
    if before is not None:
        _replace_tracker(threading.local())
    try:
        yield
    finally:
        if _tracker() is not None:
            _replace_tracker(threading.local() if before is None else before)
        for restore in config:
            restore()


def _tracker() -> Any:
    return getattr(sys.modules.get("keras.src.backend.common.global_state"), "GLOBAL_STATE_TRACKER", None)


def _replace_tracker(tracker: Any) -> None:
    sys.modules["keras.src.backend.common.global_state"].GLOBAL_STATE_TRACKER = tracker  # type: ignore[attr-defined]


def _config() -> list[Callable[[], None]]:
    """What puts back Keras' global settings as they are now."""
    config = getattr(sys.modules.get("keras"), "config", None)
    names = ("floatx", "epsilon", "image_data_format")
    return [functools.partial(getattr(config, f"set_{name}"), getattr(config, name)()) for name in names if hasattr(config, f"set_{name}")]
