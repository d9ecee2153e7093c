"""Branches that became one: parallel convolutions, each with its BatchNorm, added up into a single convolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ckptaudit.align.ops.base import Op, Shape, shown, widened
from ckptaudit.align.ops.fuse import Fuse
from ckptaudit.errors import PlanError
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

__all__ = ["Merge"]

_T = TypeVar("_T")
#: How many tensors of each kind of branch go into a weight and into a bias.
_TENSORS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {"weight": {"conv": 3, "biased": 3, "norm": 2}, "bias": {"conv": 4, "biased": 5, "norm": 4}}
)


@dataclass(frozen=True, slots=True)
class Merge(Op):
    """Add up parallel branches, as RepVGG does for deployment (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021).

    ``branches`` names them in order, joined by ``+``: ``conv`` (a convolution without bias and its BatchNorm), ``biased`` (one with bias),
    ``norm`` (a BatchNorm of the input itself). The sources are theirs in turn: for ``part="weight"`` those that :class:`Fuse` takes, of
    a ``norm`` (gamma, running_var); for ``part="bias"`` those that :class:`Fuse` takes. Smaller kernels lie in the middle of the largest.
    """

    part: str
    branches: str
    eps: float

    joins = True

    def spelled(self) -> str:
        """``merge:weight:conv+conv+norm``."""
        return f"merge:{self.part}:{self.branches}"

    def result_shape(self, *shapes: Shape) -> Shape:
        """The shape of the largest kernel, or of the first bias."""
        kinds = [kind for kind, _ in self._parted(shapes)]
        results = [Fuse(self.part, self.eps).result_shape(*given) for kind, given in self._parted(shapes) if self._is_whole(kind)]
        if self.part == "bias":
            if any(shape != results[0] for shape in results):
                raise self._refuse(results[0], f"another branch has {next(shown(shape) for shape in results if shape != results[0])}")
            return results[0]
        if not results:
            raise PlanError("merge: at least one branch is a convolution")
        largest = max(results, key=prod)
        for shape in results:
            if not _centred(shape, largest):
                raise self._refuse(largest, f"another branch has the kernel {shown(shape)}")
        for kind, given in self._parted(shapes):
            if kind == "norm" and (any(shape != largest[:1] for shape in given) or largest[0] % max(largest[1], 1)):
                raise self._refuse(largest, f"a BatchNorm of its input has the shapes {', '.join(map(shown, given))}")
        if "norm" in kinds and any(n % 2 == 0 for n in largest[2:]):
            raise self._refuse(largest, "its kernel has no middle")
        return largest

    def reverse(self, *shapes: Shape) -> tuple[Op, ...] | None:
        """None: several tensors became one."""
        self.result_shape(*shapes)
        return None

    def _is_whole(self, kind: str) -> bool:
        return self.part == "bias" or kind != "norm"

    def _parted(self, given: Sequence[_T]) -> Iterator[tuple[str, Sequence[_T]]]:
        """Each branch's kind, with its part of what is given."""
        counts = _TENSORS.get(self.part)
        if counts is None:
            raise PlanError(f"merge gives a weight or a bias, not {self.part!r}")
        kinds = self.branches.split("+")
        if not kinds or not all(kind in counts for kind in kinds):
            raise PlanError(f"merge: branches are {', '.join(counts)}, not {self.branches!r}")
        wanted = sum(counts[kind] for kind in kinds)
        if len(given) != wanted:
            raise PlanError(f"merge of the {self.part} of {self.branches} takes {wanted} tensors, not {len(given)}")
        at = 0
        for kind in kinds:
            yield kind, given[at : at + counts[kind]]
            at += counts[kind]

    def _compute(self, *arrays: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        kind = widened(self, arrays[0])[1]
        wide = [widened(self, array)[0] for array in arrays]
        result = numpy.zeros(self.result_shape(*(array.shape for array in arrays)), dtype=wide[0].dtype)
        fuse = Fuse(self.part, self.eps)
        for branch, given in self._parted(wide):
            if self._is_whole(branch):
                part = fuse.apply(*given)
                result[tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(result.shape, part.shape, strict=True))] += part
            else:
                gamma, variance = given
                outputs = numpy.arange(result.shape[0])
                middle = tuple(n // 2 for n in result.shape[2:])
                result[(outputs, outputs % result.shape[1], *middle)] += gamma / numpy.sqrt(variance + self.eps)
        return result.astype(kind)


def _centred(shape: Shape, largest: Shape) -> bool:
    """Whether a kernel has the channels of another and lies in its middle."""
    if len(shape) != len(largest) or shape[:2] != largest[:2]:
        return False
    return all(k <= n and (n - k) % 2 == 0 for n, k in zip(largest, shape, strict=True))
