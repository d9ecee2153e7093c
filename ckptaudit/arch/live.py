"""Models that exist already: a ``torch.nn.Module`` or a ``keras.Model`` of the calling program, or what a factory returned."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.model import Model
from ckptaudit.arch.torch_module import BuiltModule, layer_graph
from ckptaudit.errors import ArchitectureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckptaudit.graph import LayerGraph


def model_of_object(live: object, arguments: Mapping[str, Any]) -> Model:
    """Describe a live object; it is only looked at.

    Raises
    ------
    ArchitectureError
        It is neither a ``torch.nn.Module`` nor a ``keras.Model``, or has no weights yet.
    UsageError
        There are arguments: it is built already.
    """
    name = type(live).__name__
    if not is_model(live):
        raise ArchitectureError(f"cannot audit against a {name}: give a torch.nn.Module, a keras.Model or the name of an architecture")
    if arguments:
        raise UsageError(f"a live {name} takes no arguments")
    library = sys.modules["keras" if is_keras_model(live) else "torch"]
    return Model(
        arch=name,
        source="object",
        graph=graph_of(live, name),
        library_version=str(library.__version__),
        module=live,
    )


def is_model(made: object) -> bool:
    """Whether it is a model of torch or Keras. Whoever has one has imported its library: neither is imported to rule one out."""
    torch = sys.modules.get("torch")
    return is_keras_model(made) or (torch is not None and isinstance(made, torch.nn.Module))


def is_keras_model(made: object) -> bool:
    """Whether it is a model of Keras, of any version, on any backend. Asked before torch: there a Keras model is a torch module too."""
    return any(
        isinstance(made, model)
        for library in ("keras", "tf_keras")
        if isinstance(model := getattr(sys.modules.get(library), "Model", None), type)
    )


def graph_of(made: Any, label: str, notes: Any = None) -> LayerGraph:
    """Describe a model of either library.

    Parameters
    ----------
    made:
        The model.
    label:
        What the user calls it, for messages.
    notes:
        What was recorded of the lines that attached its parts, by the way in which it was built.
    """
    if is_keras_model(made):
        from ckptaudit.arch.keras_model import keras_graph

        return keras_graph(made, label, notes)
    return layer_graph(BuiltModule(made, notes or {}), label)
