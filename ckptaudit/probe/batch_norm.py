"""BatchNorm statistics: never updated, hardly updated, left behind by the weights, or at odds with them at one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptaudit.graph.names import fold_names
from ckptaudit.probe.hypothesis import SURE, Hypothesis, judged, undecided, untested
from ckptaudit.prove.agreement import Agreement
from ckptaudit.prove.running import Moments
from ckptaudit.prove.statistics import AGREES, DISAGREES, INPUT_AGREES

#: A variance this close to 1 and a mean this close to 0, in every channel, are what BatchNorm starts with.
_INITIAL = 1e-6
#: Median over the inner layers from which on it is no matter of a place: right, it was 0.002 to 0.006; with one place wrong, up to
#: 0.011; behind the average of two networks' weights 0.13.
_EVERYWHERE, _MAYBE_EVERYWHERE = 0.05, 0.03
#: With torch's momentum of 0.1, the initial values make up 5 % of a statistic after 28 batches.
_FEW_BATCHES = 28
_MAX_NAMES = 3


def judge_batch_norm(
    remembered: Mapping[str, Moments], batches: Mapping[str, int], agreement: Agreement | None, why_not: str
) -> Hypothesis:
    """Whether statistics are trained, and those of these weights.

    Parameters
    ----------
    remembered:
        What each layer remembers; empty for a network without BatchNorm.
    batches:
        How many batches each has seen, where that is noted and not 0.
    agreement:
        What reaches each layer from images; None where there are none.
    why_not:
        Why there is none.
    """
    if not remembered:
        return untested("batch-norm", "The model has no BatchNorm with running statistics.")
    initial = [path for path, moments in remembered.items() if _is_initial(moments)]
    total = len(remembered)
    if initial:
        return judged(
            "batch-norm",
            0.97 if len(initial) < total else 0.9,
            f"{len(initial)} of {total} BatchNorm layers are at mean 0 and variance 1: they never saw a batch in training mode, or their "
            "statistics were not restored. In evaluation mode they do not scale.",
            "restore the running statistics, or run training images through the model in train mode and save it again",
            {"initial": len(initial), "layers": total},
            initial,
        )
    if agreement is None:
        few = [path for path, count in batches.items() if count < _FEW_BATCHES]
        message = f"No layer is at its initial statistics; {_few_batches(few, total)}{why_not}"
        return (
            judged("batch-norm", 0.5, message, "run more training images through the model in train mode", place=few)
            if few
            else (undecided("batch-norm", message))
        )
    return _held_against_images(agreement, batches)


def _held_against_images(agreement: Agreement, batches: Mapping[str, int]) -> Hypothesis:
    inner = sorted(agreement.inner or agreement.layers, key=lambda layer: -layer.alone)
    worst, wrong = inner[0], [layer for layer in inner if layer.alone > DISAGREES]
    figures = {
        "layers": len(agreement.layers),
        "images": agreement.images,
        "first": agreement.first,
        "mean": agreement.mean,
        "worst": worst.alone,
        "median": inner[len(inner) // 2].alone,
        "disagree": len(wrong),
    }
    few = [path for path, count in batches.items() if count < _FEW_BATCHES]
    told = f" {_few_batches(few, len(agreement.layers))}" if few else ""
    median = inner[len(inner) // 2].alone
    if median > _MAYBE_EVERYWHERE:
        return judged(
            "batch-norm",
            0.9 if median > _EVERYWHERE else 0.6,
            f"All BatchNorm layers are far from the weights before them: half of {len(inner)} by a divergence of more than {median:.3g} "
            f"(usual is 0.01), `{worst.path}` by {worst.alone:.3g}. The statistics are not those of these weights, as after averaging "
            "(SWA, EMA) or training on with frozen statistics; or the weights are another network's, or the images are of another kind "
            f"than the training's.{told}",
            "run training images through the model in train mode (torch.optim.swa_utils.update_bn) and save it again",
            figures,
            [layer.path for layer in inner if layer.alone > median],
        )
    if wrong:
        names = [layer.path for layer in wrong]
        # What changes from image to image alone, as behind a global pooling, is known from n images to about 1/n nats.
        chance = 1 / agreement.images
        sure = min(0.97, 0.8 + 0.1 * (worst.alone / DISAGREES - 1)) if worst.alone > DISAGREES + chance else 0.6
        few_images = "" if sure >= SURE else f" {agreement.images} crops alone leave up to {chance:.2g} to chance."
        return judged(
            "batch-norm",
            sure,
            f"{len(wrong)} of {len(inner)} BatchNorm layers disagree with the weights before them: a divergence of {worst.alone:.3g} at "
            f"{_few_names(names)}, while half of the layers are below {median:.3g}. There the statistics, or the "
            f"weights before them, are not where they belong: a wrong mapping, a partial load, or statistics that were "
            f"overwritten.{few_images}{told}",
            f"look at what was restored into {_few_names(names)} and the layer before it (`ckptaudit diff`, `ckptaudit remap`)",
            figures,
            names,
        )
    if worst.alone > AGREES:
        message = f"Open: a divergence of {worst.alone:.3g} at `{worst.path}` is between agreement and disagreement.{told}"
        return undecided("batch-norm", message, figures)
    message = (
        f"Statistics and weights agree in all {len(inner)} layers that another BatchNorm stands before, up to a divergence of "
        f"{worst.alone:.3f} (`{worst.path}`), on {agreement.images} crops.{told}"
    )
    if agreement.first > INPUT_AGREES:
        message += " The layers at the input do not agree with these images, which may be their kind or their scale."
    return judged("batch-norm", 0.05, message, "", figures)


def _is_initial(moments: Moments) -> bool:
    return bool((abs(moments.mean) <= _INITIAL).all() and (abs(moments.var - 1) <= _INITIAL).all())


def _few_batches(few: Sequence[str], total: int) -> str:
    return f"{len(few)} of {total} layers saw fewer than {_FEW_BATCHES} batches ({_few_names(few)}). " if few else ""


def _few_names(names: Sequence[str]) -> str:
    folded = list(fold_names(names))
    return ", ".join(f"`{name}`" for name in folded[:_MAX_NAMES]) + (" …" if len(folded) > _MAX_NAMES else "")
