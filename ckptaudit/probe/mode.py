"""Training or evaluation mode: whether the model, told to evaluate, still does what only training does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.probe.hypothesis import Hypothesis, judged, untested
from ckptaudit.prove.agreement import Agreement, on_few_pixels
from ckptaudit.prove.running import Network

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: Difference between two runs, in units of the output's spread: rounding leaves 1e-5, a dropout 0.1 and more.
_SAME = 1e-3
#: Fewer images than this are no batch whose statistics say anything.
_A_BATCH = 8


def judge_mode(network: Network, images: Array | None, agreement: Agreement | None, why_not: str) -> Hypothesis:
    """Run an image beside two others in turn, and the same images twice where that makes a difference: evaluation gives the same.

    Parameters
    ----------
    network:
        It was told to evaluate.
    images:
        Three at least, as the network wants them.
    agreement:
        Of a network with BatchNorm that was run in both modes; else None.
    why_not:
        Why there are no images.
    """
    if images is None:
        return untested("mode", why_not)
    # Each in one run, since each run begins with the same random state.
    once, others = on_few_pixels(lambda few: _first_of_each(network, few[:2], few[[0, 2]]), images)
    accompanied, repeated = _difference(once, others), 0.0
    figures: dict[str, Any] = {"accompanied": accompanied}
    if accompanied > _SAME:
        once, again = on_few_pixels(lambda few: _first_of_each(network, few[:2], few[:2]), images)
        figures["repeated"] = repeated = _difference(once, again)
    if repeated > _SAME:
        return judged(
            "mode",
            0.97,
            f"In evaluation mode the same images give another answer each time ({repeated:.3g} deviations apart): something is random, "
            "such as F.dropout without training=self.training, or a module that eval() does not reach.",
            "make the dropout follow the mode: nn.Dropout, or F.dropout(x, p, self.training)",
            figures,
        )
    if accompanied > _SAME:
        return judged(
            "mode",
            0.95,
            f"In evaluation mode the answer for an image depends on those beside it ({accompanied:.3g} standard deviations): a norm scales "
            "by its batch, as with track_running_stats=False or a module that eval() does not reach. One image alone gives nonsense.",
            "let eval() reach every BatchNorm, and give each its running statistics",
            figures,
        )
    told = ""
    if agreement is not None and agreement.images >= _A_BATCH:
        evaluating, training = agreement.passes
        figures["agree_in_train_mode"] = agreed = _agreement(evaluating.outputs, training.outputs)
        if agreed is not None:
            told = f" In train mode, by the statistics of these crops, {agreed:.0%} of the decisions are the same."
    return judged("mode", 0.03, f"In evaluation mode the same images give the same answer, whatever is beside them.{told}", "", figures)


def _first_of_each(network: Network, *batches: Array) -> tuple[Array, Array]:
    """The answers for the first image of the first batch and of the second, both of two images."""
    made = network.run(batches).outputs
    return made[:1], made[2:3]


def _difference(a: Array, b: Array) -> float:
    import numpy

    spread = float(b.std())
    finite = numpy.isfinite(a) & numpy.isfinite(b)
    return float(numpy.abs(a - b)[finite].max(initial=0.0)) / (spread or 1.0)


def _agreement(a: Array, b: Array) -> float | None:
    """Share of places where both decide for the same class; None where there is nothing to decide."""
    if a.ndim < 2 or a.shape != b.shape or a.shape[1] < 2:
        return None
    return float((a.argmax(1) == b.argmax(1)).mean())
