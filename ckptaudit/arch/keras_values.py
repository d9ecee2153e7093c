"""The values of a live Keras model, by the names that its graph gives its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.arch.live import model_of_object

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


def variables_of(model: Any) -> dict[str, Any]:
    """The model's variables by the names that its graph gives them; states of random generators are left out."""
    weights = [weight for weight in model.weights if "seed_generator" not in str(getattr(weight, "path", None) or weight.name)]
    return dict(zip(model_of_object(model, {}).graph.tensors, weights, strict=True))


def value_of(variable: Any) -> Array:
    """A copy of a variable's values in main memory."""
    import numpy

    value = variable.numpy() if hasattr(variable, "numpy") else variable
    return numpy.array(value, copy=True)
