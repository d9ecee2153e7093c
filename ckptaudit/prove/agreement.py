"""What reaches each BatchNorm against what it remembers from training: a fingerprint of the input, and of the weights in between.

Two figures for each layer. *As it runs*, what reaches a layer is shaped by everything before it: pixels of the wrong scale show here.
*On its own*, every BatchNorm before it scales by its batch, which takes away whatever is wrong with the scale of the input or with
statistics further up: what is left is whether the weights right before this layer are those that its statistics were taken behind. So
images of another kind than those of the training still show a wrong restore at its place, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckptaudit.prove.running import Network, batches_of, divergences
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: What the images are multiplied with to see which layers notice: all but those behind another BatchNorm.
_LOUDER = 3.0
#: A layer notices where its spread grows by more than this share.
_NOTICED = 0.05


@dataclass(frozen=True, slots=True)
class Layer:
    """One BatchNorm.

    Attributes
    ----------
    path:
        Where it lies.
    running:
        Divergence as the network runs, in nats: see :func:`ckptaudit.prove.running.divergences`.
    alone:
        The same on its own.
    sees_input:
        No BatchNorm stands between the input and this one.
    """

    path: str
    running: float
    alone: float
    sees_input: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """All BatchNorms in the order of computation, and on how many images they were looked at."""

    layers: tuple[Layer, ...]
    images: int

    @property
    def first(self) -> float:
        """The first layer's figure as the network runs."""
        return self.layers[0].running

    @property
    def mean(self) -> float:
        """Mean of all layers' figures as the network runs."""
        return sum(layer.running for layer in self.layers) / len(self.layers)

    @property
    def inner(self) -> tuple[Layer, ...]:
        """Layers that another BatchNorm stands before."""
        return tuple(layer for layer in self.layers if not layer.sees_input)


def measure_agreement(network: Network, images: Array, batch: int, step: Callable[[], None] = lambda: None) -> Agreement | None:
    """Run images and compare.

    Parameters
    ----------
    network:
        It has values, and is left as it was.
    images:
        (images, channels, height, width) as the network wants them, two at least.
    batch:
        Images in one batch, two at least.
    step:
        Called after each pass.

    Returns
    -------
    Agreement
        None for a network without running statistics.
    """
    remembered = network.norms()
    if not remembered:
        return None
    running = divergences(network.run(batches_of(images, batch)).norms, remembered)
    step()
    own = network.run(batches_of(images, batch), alone=True).norms
    step()
    few = images[:2]
    quiet, loud = (network.run([few * factor], alone=True).norms for factor in (1.0, _LOUDER))
    step()
    alone = divergences(own, remembered)
    notices = {path: _spread(loud[path].var) > (1 + _NOTICED) * _spread(quiet[path].var) for path in quiet}
    return Agreement(tuple(Layer(path, running[path], alone[path], notices[path]) for path in running), len(images))


def _spread(variances: Array) -> float:
    import numpy

    return float(numpy.median(variances) ** 0.5)
