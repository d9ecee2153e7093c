"""A Keras model, run on images and watched, on any backend: what reaches a layer is asked for as one more output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import ArchitectureError
from ckptaudit.prove.proof import NOT_RUN
from ckptaudit.prove.running import Look, Moments, Pass, thinned

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: Sides to try where the model takes any size.
_SIDES = (224, 256, 128, 64)


class KerasNetwork:
    """A functional model in inference mode; it is left as it was.

    Raises
    ------
    ArchitectureError
        It is no functional model with one image as its input.
    """

    framework = "keras"

    def __init__(self, model: Any) -> None:
        import keras

        inputs = getattr(model, "inputs", None)
        if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4 or not hasattr(model, "operations"):
            raise ArchitectureError(f"{model.name} is no functional Keras model of one image: it is not run")
        self.model = model
        self._input = tuple(inputs[0].shape[1:])
        self._last = self._input[-1] in (1, 3, 4) or self._input[0] not in (1, 3, 4)
        self.class_axis = -1 if self._last else 1
        self._norms = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}

    def norms(self) -> dict[str, Moments]:
        """See :class:`ckptaudit.prove.running.Network`."""
        return {
            name: Moments(1, _values(layer.moving_mean).astype("float64"), _values(layer.moving_variance).astype("float64"))
            for name, layer in self._norms.items()
        }

    def weights(self) -> Iterator[tuple[str, Array]]:
        """See :class:`ckptaudit.prove.running.Network`."""
        for variable in self.model.weights:
            values = _values(variable)
            if values.dtype.kind == "f":
                yield str(variable.path), values

    def input_sizes(self) -> Iterator[tuple[int, int, int]]:
        """See :class:`ckptaudit.prove.running.Network`."""
        height, width, channels = self._input if self._last else (*self._input[1:], self._input[0])
        for side in _SIDES:
            yield channels, height or side, width or side
            if height and width:
                return

    def results(self, images: Array) -> list[Array]:
        """Every output of numbers with a point, channels first, for (images, channels, height, width).

        Raises
        ------
        ArchitectureError
            The model does not take such images.
        """
        import keras

        given = images.transpose(0, 2, 3, 1) if self._last else images
        with isolated(type(self.model).__name__), _without_gradients(), output_to_stderr():
            try:
                found = self.model(keras.ops.convert_to_tensor(given), training=False)
            except Exception as error:
                sizes = "×".join(map(str, images.shape[1:]))
                raise ArchitectureError(f"{NOT_RUN[1]} images of {sizes}: {describe_error(error)}") from None
        tensors = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else [found]
        values = map(_values, tensors)
        return [self._channels_first(value) for value in values if value.dtype.kind == "f"]

    def run(self, batches: Iterable[Array], *, alone: bool = False, until: str | None = None, look: int = 0) -> Pass:
        """See :class:`ckptaudit.prove.running.Network`."""
        import keras
        import numpy

        wanted = {f"norm {name}": layer.input for name, layer in self._norms_until(until).items()}
        looked = {
            f"look {layer.name}": layer.output
            for layer in (self.model.layers if look else ())
            if not isinstance(layer, keras.layers.InputLayer) and hasattr(layer.output, "shape")
        }
        if until is None:
            wanted["out"] = self.model.outputs[0]
        kinds = {layer.name: _kind(layer) for layer in self.model.layers}
        watched, seen = keras.Model(self.model.inputs, wanted | looked), 0
        made = Pass(numpy.empty((0, 0)), {}, {})
        outputs: list[Array] = []
        with ExitStack() as stack:
            stack.enter_context(isolated(type(self.model).__name__))
            stack.enter_context(_without_gradients())
            if alone:
                stack.enter_context(self._kept())
            for batch in batches:
                if looked and seen >= look:
                    watched, looked = keras.Model(self.model.inputs, wanted), {}
                seen += len(batch)
                given = batch.transpose(0, 2, 3, 1) if self._last else batch
                try:
                    with output_to_stderr():
                        found = watched(keras.ops.convert_to_tensor(given), training=alone)
                except Exception as error:
                    sizes = "×".join(map(str, batch.shape[1:]))
                    raise ArchitectureError(f"the model cannot be run on images of {sizes}: {describe_error(error)}") from None
                finite = bool(numpy.isfinite(batch).all())
                for key, tensor in found.items():
                    what, _, name = key.partition(" ")
                    values = _values(tensor)
                    if what == "norm":
                        _add(
                            made.norms,
                            name,
                            numpy.moveaxis(values, self._norms[name].axis, 0).reshape(values.shape[self._norms[name].axis], -1),
                        )
                    elif what == "look":
                        made.layers.setdefault(name, Look(kinds[name])).see(self._channels_first(values), finite)
                        finite &= made.layers[name].finite
                    else:
                        made.shape = values.shape
                        outputs.append(thinned(self._channels_first(values).astype("float32")))
        if outputs:
            made.outputs = numpy.concatenate(outputs)
        return made

    def _norms_until(self, until: str | None) -> dict[str, Any]:
        names = list(self._norms)
        return {name: self._norms[name] for name in (names if until is None else names[: names.index(until) + 1])}

    def _channels_first(self, values: Array) -> Array:
        return values.transpose(0, 3, 1, 2) if self._last and values.ndim == 4 else values

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Nothing drops out, and the moving statistics stay as they are."""
        kept = {name: (_values(layer.moving_mean), _values(layer.moving_variance)) for name, layer in self._norms.items()}
        rates = [(layer, layer.rate) for layer in self.model.layers if isinstance(getattr(layer, "rate", None), float)]
        try:
            for layer, _ in rates:
                layer.rate = 0.0
            yield
        finally:
            for layer, rate in rates:
                layer.rate = rate
            for name, (mean, variance) in kept.items():
                self._norms[name].moving_mean.assign(mean)
                self._norms[name].moving_variance.assign(variance)


def _kind(layer: Any) -> str:
    """The layer's class, or the function that an activation layer applies, spelt as torch spells it."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "")
    return {"sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}.get(name, type(layer).__name__)


def _add(norms: dict[str, Moments], name: str, values: Array) -> None:
    values = values.astype("float64")
    count = values.shape[1]
    mean, var = values.mean(1), values.var(1, ddof=min(1, count - 1))
    norms[name] = norms[name].with_batch(count, mean, var) if name in norms else Moments(count, mean, var)


def _values(tensor: Any) -> Array:
    import keras
    import numpy

    return numpy.array(keras.ops.convert_to_numpy(tensor), copy=True)


@contextmanager
def _without_gradients() -> Iterator[None]:
    import keras

    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield
