"""One possible cause of a wrong output: whether it is one, by which figures, how sure, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ckptaudit.records import dataclass, field, replace

Status = Literal["cause", "possible", "cleared", "cannot tell", "not tested"]
Cause = Literal["restoring", "numbers", "preprocessing", "batch-norm", "mode", "head", "reading", "opencv", "mask"]

#: How sure a hypothesis is to be called a cause, and to be called possible.
SURE, POSSIBLE = 0.8, 0.4

TITLES: Mapping[Cause, str] = {
    "restoring": "what the file does not set",
    "numbers": "values that are no numbers, or nothing",
    "preprocessing": "how images are fed",
    "batch-norm": "BatchNorm statistics",
    "mode": "training or evaluation mode",
    "head": "the head",
    "reading": "how the output is read",
    "opencv": "what OpenCV makes of it",
    "mask": "the image that looks black",
}
#: Causes that explain others come first among equals: NaN in a weight makes every figure behind it worthless.
_ORDER: Sequence[Cause] = tuple(TITLES)
_RANK: Sequence[Status] = ("cause", "possible", "cannot tell", "not tested", "cleared")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One cause, judged.

    Attributes
    ----------
    cause:
        Which one.
    status:
        ``cause`` from 0.8, ``possible`` from 0.4, ``cleared`` below; ``cannot tell`` where the figures leave it open, ``not tested`` where
        what it takes is not there.
    sure:
        How sure it is that this is a cause, from 0 to 1.
    message:
        What is the case, with the figures in words.
    fix:
        What to do, or ``""``.
    figures:
        The figures, as JSON values.
    place:
        Layers or files that it is about, the worst first.
    """

    cause: Cause
    status: Status
    sure: float
    message: str
    fix: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    place: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        return TITLES[self.cause]

    def to_json(self) -> dict[str, Any]:
        """The hypothesis as JSON values, in the form that ``ckptaudit.probe/1`` fixes."""
        return {
            "cause": self.cause,
            "status": self.status,
            "sure": round(self.sure, 3),
            "message": self.message,
            "fix": self.fix,
            "figures": {key: _finite(value) for key, value in self.figures.items()},
            "place": list(self.place),
        }


def judged(
    cause: Cause, sure: float, message: str, fix: str = "", figures: Mapping[str, Any] | None = None, place: Sequence[str] = ()
) -> Hypothesis:
    """A hypothesis whose status follows from how sure it is."""
    status: Status = "cause" if sure >= SURE else "possible" if sure >= POSSIBLE else "cleared"
    return Hypothesis(cause, status, sure, message, fix, figures or {}, tuple(place))


def undecided(cause: Cause, message: str, figures: Mapping[str, Any] | None = None, fix: str = "") -> Hypothesis:
    """A hypothesis that was looked into, and that the figures leave open."""
    return Hypothesis(cause, "cannot tell", 0.0, message, fix, figures or {})


def untested(cause: Cause, message: str) -> Hypothesis:
    """A hypothesis for which something is missing."""
    return Hypothesis(cause, "not tested", 0.0, message)


def on_a_guess(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Hypotheses whose figures were taken of tensors that a guess had put in their places: none is surer than that this is the cause.

    What is NaN, and what an image holds, is so wherever the tensors belong.
    """
    facts: tuple[Cause, ...] = ("numbers", "mask")
    return [h if h.cause in facts or h.sure <= POSSIBLE else replace(h, status="possible", sure=POSSIBLE) for h in hypotheses]


def ranked(hypotheses: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
    """Causes first, the surest first; among equals those that explain others."""
    return tuple(sorted(hypotheses, key=lambda h: (_RANK.index(h.status), -round(h.sure, 2), _ORDER.index(h.cause))))


def _finite(value: Any) -> Any:
    """JSON has no infinity: 1e9 stands for what is beyond measure."""
    if isinstance(value, float):
        return None if math.isnan(value) else min(max(value, -1e9), 1e9)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
