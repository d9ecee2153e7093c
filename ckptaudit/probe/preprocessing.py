"""How images are fed: every usual way is tried, and scored by how well what reaches each BatchNorm agrees with what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ckptaudit.probe.hypothesis import Hypothesis, judged, undecided, untested
from ckptaudit.records import dataclass

#: A way is out of the running when its score is this many times the best one's. The next way came to 3.0 times the best and more on the
#: networks that the thresholds were chosen and checked on, where its images are of a kind with the training's.
_WORSE = 3.0
#: Up to these figures the best way agrees with the statistics (see :data:`ckptaudit.prove.statistics.INPUT_AGREES`).
_AGREES = 0.15
#: A way this many times worse is wrong, whatever the images.
_FAR_WORSE = 30.0


@dataclass(frozen=True, slots=True)
class Score:
    """One way to feed images.

    Attributes
    ----------
    name:
        As it can be typed, or who states it.
    words:
        What it does.
    first, mean:
        Divergence at the first BatchNorm, and the mean over all that were looked at, in nats.
    given:
        It is what the user does.
    stated:
        It is what the library or the file states.
    other_order:
        It is another way with the colours in the other order.
    """

    name: str
    words: str
    first: float
    mean: float
    given: bool = False
    stated: bool = False
    other_order: bool = False

    @property
    def total(self) -> float:
        """What ways are ranked by: the geometric mean of both figures."""
        return float((self.first * self.mean) ** 0.5)

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values."""
        return {
            "name": self.name,
            "words": self.words,
            "first": round(min(self.first, 1e9), 4),
            "mean": round(min(self.mean, 1e9), 4),
            "given": self.given,
            "stated": self.stated,
        }


def judge_preprocessing(scores: Sequence[Score], why_not: str = "") -> Hypothesis:
    """Whether what the user does to images is what the network was trained with.

    Parameters
    ----------
    scores:
        Of every way that was tried; empty where none could be.
    why_not:
        Why there are none.
    """
    if not scores:
        return untested("preprocessing", why_not)
    order = sorted(scores, key=lambda score: score.total)
    best = order[0]
    left = sorted((score for score in order if score.total < _WORSE * best.total), key=lambda score: (not score.stated, score.other_order))
    agrees = best.first <= _AGREES and best.mean <= _AGREES
    figures = {"scores": [score.to_json() for score in order], "left": [score.name for score in left], "agrees": agrees}
    given = next((score for score in scores if score.given), None)
    stated = next((score for score in scores if score.stated), None)
    names = _listed([score.words for score in left])
    if given is not None and given not in left:
        times = given.total / best.total
        sure = 0.97 if agrees and times >= 5 else 0.95 if times >= _FAR_WORSE else 0.85 if agrees else 0.6
        message = (
            f"Fed as you do ({given.words}), what reaches the BatchNorms is not what they remember: a divergence of "
            f"{given.mean:,.3f} on average, "
            f"{given.first:,.3f} at the first. {_agreeing(best, left, agrees)}"
        )
        fix = f"feed images as {names}" if agrees else f"scale images another way; the nearest that was tried is {best.words}"
        return judged("preprocessing", sure, message, fix, figures)
    if not agrees:
        nearest = f"the nearest is {names} (a divergence of {best.mean:.3g} on average, {best.first:.3g} at the first)"
        message = f"No way that was tried makes images agree with what the BatchNorms remember; {nearest}."
        ending = " The images are of another kind than the training's, or the first layers are not right."
        if given is not None:
            return undecided("preprocessing", f"What you do ({given.words}) is among the nearest, and none agrees well.{ending}", figures)
        return undecided("preprocessing", message + ending, figures, _how_to_say(given))
    if given is not None:
        others = [score for score in left if not score.given]
        told = f" Cannot tell it from {_listed([score.words for score in others])}." if others else ""
        message = f"What you do ({given.words}) agrees: a divergence of {given.mean:.3f} on average, {given.first:.3f} at the first.{told}"
        return judged("preprocessing", 0.05, message, "", figures)
    message = _agreeing(best, left, agrees)
    message = message[0].upper() + message[1:]
    if stated is not None and stated not in left:
        message += f" {stated.name} states something else ({stated.words}), which does not agree: {stated.mean:.3g} on average."
    message += " How you feed images is not given (--preprocess), so this says what is right, not what is wrong."
    return undecided("preprocessing", message, figures, f"compare with what you do: {names}")


def _agreeing(best: Score, left: Sequence[Score], agrees: bool) -> str:
    figures = f"a divergence of {best.mean:.3f} on average, {best.first:.3f} at the first"
    names = _listed([score.words for score in left])
    if len(left) == 1:
        return f"{names} {'agrees' if agrees else 'is nearest'} ({figures}), and nothing else that was tried comes near."
    word = "agrees" if agrees else "does not agree well"
    return f"{names}: cannot tell which; the best of them {word} ({figures}), and nothing else comes near."


def _how_to_say(given: Score | None) -> str:
    return "" if given is not None else "say what you do with --preprocess, and give images like those of the training"


def _listed(words: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(words))
