"""How the output is read: what kind of numbers comes out, along which axis the classes lie, and whether one class takes everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ckptaudit.errors import UsageError
from ckptaudit.probe.hypothesis import Hypothesis, judged, undecided, untested
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy

    from ckptaudit.prove.running import Pass

    Array = numpy.ndarray[Any, Any]

Kind = Literal["probabilities", "sigmoid probabilities", "log-probabilities", "logits"]
#: ``--read``, each as ``HOW`` or, for argmax, ``argmax:AXIS``.
WAYS = ("argmax", "softmax", "sigmoid", "threshold")

#: Probabilities add up to 1 within this; float16 is content with it.
_SUM = 5e-3
#: Share of all decisions for one class from which on it takes everything.
_ALL = 0.999
#: Fewer decisions than this show nothing.
_ENOUGH = 8
#: A score that changes from place to place by less than this share of its lead does not depend on the image.
_CONSTANT = 1e-3


@dataclass(frozen=True, slots=True)
class Output:
    """What comes out.

    Attributes
    ----------
    kind:
        What the numbers are.
    classes:
        How many there are for each place.
    dense:
        There are places: a map, not one answer for each image.
    shape:
        As the model gives it, for one batch.
    axis:
        Along which the classes lie.
    """

    kind: Kind
    classes: int
    dense: bool
    shape: tuple[int, ...]
    axis: int


def output_of(seen: Pass, axis: int) -> Output:
    """Tell from values what they are."""
    import numpy

    values = seen.outputs
    classes = values.shape[1]
    return Output(_kind(values, classes, numpy), classes, values.ndim > 2, seen.shape, axis % len(seen.shape))


def _kind(values: Array, classes: int, numpy: Any) -> Kind:
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 + 1e-6:
        together = bool((abs(values.sum(1) - 1) < _SUM).all())
        return "probabilities" if classes > 1 and together else "sigmoid probabilities"
    if high <= 1e-6 and classes > 1 and bool((abs(numpy.exp(values.clip(-80)).sum(1) - 1) < _SUM).all()):
        return "log-probabilities"
    return "logits"


def parse_read(text: str | None) -> tuple[str, int | None] | None:
    """``argmax:3`` as its way and axis.

    Raises
    ------
    UsageError
        There is no such way.
    """
    if text is None:
        return None
    way, colon, axis = text.partition(":")
    if way not in WAYS or (colon and (way != "argmax" or not axis.lstrip("-").isdecimal())):
        raise UsageError(f"--read {text}: it is one of argmax, argmax:AXIS, softmax, sigmoid, threshold")
    return way, int(axis) if colon else None


def judge_reading(output: Output | None, read: tuple[str, int | None] | None, why_not: str) -> Hypothesis:
    """Whether the user's way to read the output goes with what it is."""
    if output is None:
        return untested("reading", why_not)
    size = "×".join(map(str, output.shape))
    figures = {"kind": output.kind, "classes": output.classes, "shape": list(output.shape), "axis": output.axis}
    right = right_reading(output)
    told = f"The output is {size}: {output.kind}{f' of {output.classes} classes along axis {output.axis}' if output.classes > 1 else ''}"
    if read is None:
        note = "an argmax over its one channel would be 0 everywhere; " if output.classes == 1 else ""
        return undecided("reading", f"{told}; {note}how you read it is not given (--read).", figures, right)
    wrong = _objection(output, *read)
    if wrong is None:
        return judged("reading", 0.05, f"{told}, and you read it so.", "", figures)
    sure, what = wrong
    return judged("reading", sure, f"{told}. {what}", right, figures)


def right_reading(output: Output) -> str:
    """How to read such an output, in words."""
    if output.classes == 1:
        threshold = (
            "compare it with 0.5"
            if output.kind == "sigmoid probabilities"
            else "apply a sigmoid and compare with 0.5 (or the logit with 0)"
        )
        return f"one channel: {threshold}"
    how = {"logits": "softmax for probabilities, ", "log-probabilities": "exp for probabilities, "}.get(output.kind, "")
    if output.kind == "sigmoid probabilities":
        return "each class for itself: compare with 0.5"
    return f"{how}argmax over axis {output.axis} for the class"


def _objection(output: Output, way: str, axis: int | None) -> tuple[float, str] | None:
    one = output.classes == 1
    if axis is not None and not -len(output.shape) <= axis < len(output.shape):
        return 0.99, f"There is no axis {axis}."
    if axis is not None and axis % len(output.shape) != output.axis:
        left = [size for i, size in enumerate(output.shape) if i != axis % len(output.shape)]
        return 0.99, f"An argmax over axis {axis} goes over the wrong axis: it gives {'×'.join(map(str, left))} positions, not classes."
    if way in ("argmax", "softmax") and one:
        return 0.99, f"{way} over one channel is {'0' if way == 'argmax' else '1'} everywhere, whatever the image."
    if way == "softmax" and output.kind == "probabilities":
        return 0.9, "They have been through a softmax already: a second one flattens them until no class stands out."
    if way == "sigmoid" and output.kind == "sigmoid probabilities":
        return 0.9, "They have been through a sigmoid already: a second one lifts every value to 0.5 and more."
    if way == "sigmoid" and output.kind == "probabilities":
        return 0.85, "They have been through a softmax: a sigmoid lifts every value to 0.5 and more."
    if way == "threshold" and output.kind in ("logits", "log-probabilities"):
        return 0.85, "They are no probabilities: compared with 0.5 they say little."
    return None


def judge_decisions(outputs: Array | None, bias: Array | None, images: bool) -> Hypothesis | None:
    """Whether one class takes everything, by what margin, and whether the images have a say; None where there is nothing to say.

    Parameters
    ----------
    outputs:
        (images, classes, …).
    bias:
        The head's, one for each class.
    images:
        Whether they are of images; noise may well be all one class.
    """
    import numpy

    if outputs is None or not images or outputs.shape[1] < 2 or not numpy.isfinite(outputs).all():
        return None
    scores = numpy.moveaxis(outputs, 1, -1).reshape(-1, outputs.shape[1]).astype(numpy.float64)
    if len(scores) < _ENOUGH:
        return None
    counts = numpy.bincount(scores.argmax(1), minlength=scores.shape[1])
    top = int(counts.argmax())
    share = float(counts[top]) / len(scores)
    if share < _ALL:
        return None
    rivals = numpy.delete(scores, top, 1).max(1)
    lead = scores[:, top] - rivals
    margin, sway = float(numpy.median(lead)), float(lead.std())
    figures = {"class": top, "share": share, "margin": margin, "sway": sway}
    told = f"{share:.1%} of all decisions are class {top}, by a margin of {margin:.3g} (median)"
    if sway <= _CONSTANT * max(abs(margin), 1e-12):
        return judged(
            "reading",
            0.9,
            f"{told}, and the margin is the same for every image: what comes out does not depend on what goes in.",
            "look for a layer that gives nothing, or a head without trained weights",
            figures,
        )
    why = ""
    if bias is not None and len(bias) == outputs.shape[1]:
        ahead = float(bias[top] - numpy.delete(bias, top).max())
        figures["bias_margin"] = ahead
        if ahead > 0.5 * margin > 0:
            why = f" The head's bias alone puts it ahead by {ahead:.3g}, as training on a set where it is most common does."
    return judged(
        "reading",
        0.5,
        f"{told}; it changes with the image by {sway:.3g}.{why} Either these images show nothing else, or the set it was trained on was "
        "imbalanced, or the features before the head are wrong.",
        "try an image that surely shows another class; look at the second class, or at the scores themselves",
        figures,
    )
