"""A restored model and the network that its values come from, of different libraries, on the same random images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ckptaudit.errors import ArchitectureError
from ckptaudit.prove.outputs import REORDERED, depends_on_input, distance_between, distances, in_another_order
from ckptaudit.prove.proof import Outputs

if TYPE_CHECKING:
    import numpy
    import torch

    Array = numpy.ndarray[Any, Any]

#: Equality, in units of the output's standard deviation: single precision with BatchNorm folded in one of them leaves 1e-5, and up to 1e-4
#: where activations grow; another weight changes more than 0.05.
_EQUAL, _OTHER = 1e-3, 0.05
#: Share of what the outputs differ by between inputs that two libraries may differ by, if that is to show anything.
_ROUNDING = 0.05


class Running(Protocol):
    """A network with values, of whatever library."""

    framework: str

    def input_sizes(self) -> Iterator[tuple[int, int, int]]:
        """Channels, height and width that may be those of the input, the likeliest first."""

    def results(self, images: Array) -> list[Array]:
        """Every output of numbers with a point, channels first, for (images, channels, height, width)."""


def compare_across(source: Running, target: Running, input_size: Sequence[int] | None = None) -> Outputs:
    """Run both on two images of noise.

    The last activation is often a part of a Keras model and seldom one of torch: what torch gives counts behind a softmax or sigmoid, too.

    Raises
    ------
    ArchitectureError
        One of them cannot be run, an output has the shape of none of the other's, or they show nothing.
    """
    import torch

    # A network of torch does not tell its size.
    telling = source if target.framework == "torch" else target
    sizes = tuple(input_size) if input_size is not None else next(telling.input_sizes())
    images = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(0))
    theirs, ours = ([torch.from_numpy(values) for values in network.results(images.numpy())] for network in (source, target))
    # A model of torch may have outputs that the file's network has not; all that another model gives is the file's.
    wanted, given, by = (theirs, ours, target) if target.framework == "torch" else (ours, theirs, source)
    behind = (lambda logits: logits.softmax(1), torch.sigmoid) if {source.framework, target.framework} == {"keras", "torch"} else ()
    candidates = [*given, *(last(tensor) for last in behind if by.framework == "torch" for tensor in given if tensor.dim() > 1)]
    return _compared(wanted, candidates, tuple(images.shape))


def _compared(wanted: Sequence[torch.Tensor], candidates: Sequence[torch.Tensor], shape: tuple[int, ...]) -> Outputs:
    known = distances(wanted, candidates)
    if not known or len(known) < len(wanted):
        raise ArchitectureError("an output of one network has the shape of none of the other's")
    if max(known) > _EQUAL and in_another_order(wanted, candidates, _EQUAL):
        raise ArchitectureError(REORDERED)
    if not any(_varies(tensor, distance) for tensor, distance in zip(wanted, known, strict=True)):
        raise ArchitectureError("the outputs are much the same for different inputs: they show nothing of the layers before")
    if _EQUAL < max(known) < _OTHER:
        told = f"the outputs differ by {max(known):.1g} standard deviations"
        raise ArchitectureError(f"{told}: more than rounding usually leaves, and less than another weight does")
    return Outputs(max(known) <= _EQUAL, len(known), max(known), _EQUAL, (shape,), "float32", (0, 0))


def _varies(output: torch.Tensor, distance: float) -> bool:
    """Whether equality shows something: what is sure of everything gives ones and zeros, whatever the input."""
    if not depends_on_input(output):
        return False
    if output.dim() == 0 or len(output) < 2 or distance > _EQUAL:
        return True
    return distance_between(output[:1], output[1:2]) * _ROUNDING > distance
