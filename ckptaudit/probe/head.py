"""The head: its weights look like their initialiser, it has another number of classes than is wanted, or one more for the background."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ckptaudit.probe.hypothesis import Hypothesis, judged, undecided, untested
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: Fewer weights than this show no distribution.
_ENOUGH = 200
#: Kolmogorov-Smirnov: the distance that 1 of 1,000 samples of the very distribution exceeds is 1.95 / √n.
_KS = 1.95
#: A trained bias is never 0 in every class.
_ZERO = 1e-12


@dataclass(frozen=True, slots=True)
class Head:
    """The layer that gives the classes.

    Attributes
    ----------
    path:
        Where it lies.
    weight:
        (classes, inputs).
    bias:
        One for each class, or None.
    receptive:
        Weights that one output is made of, and outputs that one input goes to: what initialisers are scaled by.
    """

    path: str
    weight: Array
    bias: Array | None
    receptive: tuple[int, int]


def judge_head(head: Head | None, wanted: int | None, stated: int | None, missing: bool) -> Hypothesis:
    """Whether the head was trained, and for as many classes as are wanted.

    Parameters
    ----------
    head:
        None where names and order show none.
    wanted:
        How many classes the user expects.
    stated:
        How many class names the file notes.
    missing:
        The file does not set the head.
    """
    if head is None:
        return untested("head", "Names and order do not show which layer gives the classes.")
    classes = len(head.weight)
    figures: dict[str, Any] = {"classes": classes, "wanted": wanted, "stated": stated, "bias_spread": _spread(head.bias)}
    if missing:
        return judged(
            "head",
            0.97,
            f"The head `{head.path}` ({classes} classes) is not set by the file: it holds its initial values, and answers at random.",
            "build the model for the classes of the file, or train the head",
            figures,
            [head.path],
        )
    if law := _initialiser(head):
        return judged(
            "head",
            0.92 if law.startswith("uniform") else 0.85,
            f"The weights of the head `{head.path}` look as they were initialised: {law}. Training leaves no such distribution.",
            "take a checkpoint with a trained head, or train it",
            figures,
            [head.path],
        )
    for number, who in ((wanted, "you want"), (stated, "the file names")):
        if number is None or number == classes:
            continue
        if classes == number + 1:
            return judged(
                "head",
                0.85 if number == wanted else 0.6,
                f"The head `{head.path}` has {classes} outputs and {who} {number}: one is for the background, usually the first, so that "
                "every class is one further than its number.",
                "take class i from output i + 1 (or compare the names in the file), and draw the background as background",
                figures,
                [head.path],
            )
        return judged(
            "head",
            0.9 if number == wanted else 0.6,
            f"The head `{head.path}` has {classes} outputs and {who} {number} classes.",
            "take the checkpoint of the model with these classes, or map them (`ckptaudit remap --class-map`)",
            figures,
            [head.path],
        )
    if head.weight.size < _ENOUGH:
        return undecided(
            "head", f"The head `{head.path}` has {head.weight.size} weights, too few to see whether they were trained.", figures
        )
    return judged("head", 0.03, f"The head `{head.path}` ({classes} classes) does not look like an initialiser.", "", figures)


def _spread(bias: Array | None) -> float | None:
    return None if bias is None else float(bias.std())


def _initialiser(head: Head) -> str:
    """The law by which usual initialisers would have drawn these weights; ``""`` where they do not look so."""
    import numpy

    values = numpy.sort(head.weight.astype(numpy.float64).ravel())
    if values.size < _ENOUGH or float(values.std()) == 0:
        return "" if values.size < _ENOUGH else "all weights are equal"
    inputs, outputs = head.receptive
    limit = _KS / math.sqrt(values.size)
    largest = float(numpy.abs(values).max())
    bounds = {
        f"uniform within ±1/√{inputs} (torch's default)": 1 / math.sqrt(inputs),
        f"uniform within ±√(6/{inputs + outputs}) (Xavier, Glorot)": math.sqrt(6 / (inputs + outputs)),
        f"uniform within ±√(6/{inputs}) (He)": math.sqrt(6 / inputs),
    }
    for law, bound in bounds.items():
        # The bound is known from the shape alone: a trained layer has no reason to fill it to the brim and not to step over.
        if 0.97 * bound < largest <= bound * (1 + 1e-6) and _distance(values, (values + bound) / (2 * bound)) < limit:
            return law
    fresh_bias = head.bias is not None and float(numpy.abs(head.bias).max()) < _ZERO
    if not fresh_bias:
        return ""
    scales = {
        "0.01": 0.01,
        "0.02": 0.02,
        "0.001": 0.001,
        f"√(2/{inputs}) (He)": math.sqrt(2 / inputs),
        f"√(2/{outputs}) (He, fan out)": math.sqrt(2 / outputs),
        f"√(2/{inputs + outputs}) (Xavier, Glorot)": math.sqrt(2 / (inputs + outputs)),
    }
    spread = float(values.std())
    for words, scale in scales.items():
        # The deviation of a sample is known to 1/√(2n); four times that lets nearly all true ones through.
        if abs(spread / scale - 1) < 4 / math.sqrt(2 * values.size) and _distance(values, _normal(values / scale)) < limit:
            return f"normal with deviation {words}, and a bias of 0 in every class"
    return ""


def _distance(ordered: Array, law: Array) -> float:
    """Kolmogorov-Smirnov distance of a sorted sample from a law, given as the law's cumulative probability at each value."""
    import numpy

    count = len(ordered)
    steps = numpy.arange(count + 1) / count
    return float(max(numpy.abs(law - steps[1:]).max(), numpy.abs(law - steps[:-1]).max()))


def _normal(values: Array) -> Array:
    import numpy

    return numpy.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in values])
