"""Values that are no numbers, layers that give nothing, and activations that half precision cannot hold."""

from __future__ import annotations

from collections.abc import Mapping

from ckptaudit.probe.hypothesis import Hypothesis, judged
from ckptaudit.prove.running import Look, Network, Pass
from ckptaudit.text import plural

#: The largest number of float16.
_HALF = 65504.0
#: Share of silent channels from which on little can pass, and from which on nothing can.
_QUIET, _SILENT = 0.9, 1.0
_SATURATED = 0.99


def judge_numbers(network: Network, seen: Pass | None, dtype: str | None, images: bool) -> Hypothesis:
    """Look at weights, then at what each layer gives.

    Parameters
    ----------
    network:
        It has values.
    seen:
        A pass that looked at each layer; None where the model could not be run.
    dtype:
        In which the file keeps most values.
    images:
        Whether the pass saw images; otherwise noise.
    """
    import numpy

    bad = [name for name, values in network.weights() if not numpy.isfinite(values).all()]
    if bad:
        return judged(
            "numbers",
            0.99,
            f"{plural(len(bad), 'tensor')} {'holds' if len(bad) == 1 else 'hold'} NaN or infinity, the first is `{bad[0]}`: everything "
            "behind it is NaN, and NaN never wins an argmax.",
            "the training diverged, or the file is damaged: take an earlier checkpoint",
            {"tensors": len(bad)},
            bad,
        )
    if seen is None:
        return judged("numbers", 0.1, "All weights and statistics are numbers; what happens to them when the model runs was not seen.")
    what = "images" if images else "noise"
    broken = [path for path, look in seen.layers.items() if not look.finite and look.finite_in]
    if broken or not bool(numpy.isfinite(seen.outputs).all()):
        first = broken[0] if broken else ""
        where = f"`{first}` is the first layer that makes them out of numbers" if first else "they appear outside any layer"
        return judged(
            "numbers",
            0.97,
            f"Run on {what}, the output holds NaN or infinity: {where}.",
            "look at that layer's weights and epsilon; a variance of 0 or a division is the usual reason",
            {"layers": len(broken)},
            broken,
        )
    return _of_finite(seen, dtype, what)


def _of_finite(seen: Pass, dtype: str | None, what: str) -> Hypothesis:
    layers = seen.layers
    loudest = max(layers, key=lambda path: layers[path].largest, default="")
    largest = layers[loudest].largest if loudest else 0.0
    silent = [path for path, look in layers.items() if look.silent >= _SILENT and look.kind != "Dropout"]
    quiet = max(layers, key=lambda path: layers[path].silent, default="")
    figures = {"largest": largest, "silent": layers[quiet].silent if quiet else 0.0}
    if silent:
        return judged(
            "numbers",
            0.98,
            f"`{silent[0]}` gives 0 everywhere for all {what}: what comes behind it does not depend on the image.",
            "look at the weights and statistics right before it",
            figures,
            silent,
        )
    if largest > _HALF:
        over = next(path for path, look in layers.items() if look.largest > _HALF)
        message = f"`{over}` reaches {layers[over].largest:.3g}, and float16 ends at 65,504"
        if dtype == "float16":
            return judged(
                "numbers", 0.85, f"{message}: run in half precision, as the file is kept, it is infinite.", _OVERFLOW, figures, [over]
            )
        return judged("numbers", 0.45, f"{message}: run in half precision (or autocast), it would be infinite.", _OVERFLOW, figures, [over])
    ends = [path for path in _inside(layers) if layers[path].saturated >= _SATURATED]
    if ends:
        message = f"{layers[ends[0]].saturated:.0%} of what `{ends[0]}` gives lies at its ends: it lets no difference through."
        return judged("numbers", 0.6, message, "look at the scale of what reaches it", figures, ends)
    if quiet and layers[quiet].silent >= _QUIET:
        message = f"{layers[quiet].silent:.0%} of the channels that `{quiet}` gives are 0 for all {what}."
        return judged(
            "numbers", 0.5, message, "dead ReLUs: a learning rate that was too high, or wrong weights before them", figures, [quiet]
        )
    message = (
        f"Every layer gives numbers, the largest {largest:.3g} (`{loudest}`); at most {figures['silent']:.0%} of a layer's channels are 0."
    )
    return judged("numbers", 0.03, message, "", figures)


_OVERFLOW = "run it in float32 or bfloat16"


def _inside(layers: Mapping[str, Look]) -> list[str]:
    """All layers but the last: what ends in 0 and 1 there is an answer."""
    return list(layers)[:-1]
