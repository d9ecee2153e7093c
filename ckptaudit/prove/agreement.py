"""What reaches each BatchNorm against what it remembers from training: a fingerprint of the input, and of the weights in between.

Two figures for each layer. *As it runs*, what reaches a layer is shaped by everything before it: pixels of the wrong scale show here.
*On its own*, every BatchNorm before it scales by its batch, which takes away whatever is wrong with the scale of the input or with
statistics further up: what is left is whether the weights right before this layer are those that its statistics were taken behind. So
images of another kind than those of the training still show a wrong restore at its place, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ckptaudit.errors import ArchitectureError
from ckptaudit.prove.running import Network, Pass, batches_of, divergences
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: What the images are multiplied with to see which layers notice: all but those behind another BatchNorm.
_LOUDER = 3.0
#: A layer notices where its spread grows by more than this share.
_NOTICED = 0.05
#: Side that is enough to see whether scale, chance or companions matter; networks with strides of 32 still have maps of it.
_SMALL = 128

_T = TypeVar("_T")


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
    """All BatchNorms in the order of computation.

    Attributes
    ----------
    layers:
        Each with its figures.
    images:
        On how many they were taken.
    passes:
        As the network runs, and with each BatchNorm scaling by its batch: what else was seen on the way, outputs above all.
    """

    layers: tuple[Layer, ...]
    images: int
    passes: tuple[Pass, Pass] = field(repr=False)

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


def measure_agreement(
    network: Network, images: Array, batch: int, step: Callable[[], None] = lambda: None, look: int = 0
) -> Agreement | None:
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
    look:
        Of how many images each layer is looked at in the first pass: see :meth:`ckptaudit.prove.running.Network.run`.

    Returns
    -------
    Agreement
        None for a network without running statistics.
    """
    remembered = network.norms()
    if not remembered:
        return None
    evaluating = network.run(batches_of(images, batch), look=look)
    step()
    training = network.run(batches_of(images, batch), alone=True)
    step()
    running, alone = divergences(evaluating.norms, remembered), divergences(training.norms, remembered)
    quiet, loud = on_few_pixels(lambda few: [network.run([few * factor], alone=True).norms for factor in (1.0, _LOUDER)], images[:2])
    step()
    notices = {path: _spread(loud[path].var) > (1 + _NOTICED) * _spread(quiet[path].var) for path in quiet}
    layers = tuple(Layer(path, running[path], alone[path], notices[path]) for path in running)
    return Agreement(layers, len(images), (evaluating, training))


def on_few_pixels(run: Callable[[Array], _T], images: Array) -> _T:
    """What ``run`` gives for images with pixels left out, or for whole ones where it takes no others: for what needs no detail.

    Parameters
    ----------
    run:
        Raises ArchitectureError for sizes that the network does not take.
    images:
        (images, channels, height, width); where both sides are 256 and more, the shorter one is brought down to 128 and some.
    """
    step = max(1, min(images.shape[2:]) // _SMALL)
    if step > 1:
        with suppress(ArchitectureError):
            return run(images[:, :, ::step, ::step])
    return run(images)


def _spread(variances: Array) -> float:
    import numpy

    return float(numpy.median(variances) ** 0.5)
