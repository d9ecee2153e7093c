"""A Keras file was trained with a loss that its output does not go with: predictions that are zero, constant or no probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

if TYPE_CHECKING:
    from ckptaudit.read.keras_outputs import ModelOutput

RULE = Rule("training-config", "The loss does not go with the output", "warning", "file")

_CATEGORICAL = frozenset({"categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy"})
_BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy"})
#: Activations whose values are probabilities.
_PROBABILITIES = frozenset({"softmax", "sigmoid", "hard_sigmoid"})


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for each output whose activation and loss contradict one another."""
    config = comparison.checkpoint.config
    model, training = config.get("model"), config.get("training")
    if not isinstance(model, Mapping) or not isinstance(training, Mapping):
        return
    from ckptaudit.read.keras_outputs import model_outputs  # few files tell how they were trained

    outputs = model_outputs(model)
    for output, loss in zip(outputs, _losses(training.get("loss"), outputs), strict=True):
        name, from_logits = _read(loss)
        told = _contradiction(output, name, from_logits)
        if told:
            message, fix = told
            yield RULE.finding(f"Output `{output.layer}`: {message}", confidence=0.9, fix=fix)


def _contradiction(output: ModelOutput, loss: str, from_logits: bool) -> tuple[str, str] | None:
    """What is wrong with one output, and what to do; None where nothing is, or where the config does not tell."""
    activation, units = output.activation, output.units
    if not activation or loss not in _CATEGORICAL | _BINARY:
        return None
    if units == 1 and activation == "softmax":
        return ("softmax over one unit gives 1 whatever the input is.", "use sigmoid for one unit, or as many units as there are classes")
    if units == 1 and loss in _CATEGORICAL:
        return (
            f"one unit was trained with {loss}, which needs a unit for each class; every prediction is class 0.",
            "train with binary_crossentropy, or with a unit for each class",
        )
    if from_logits and activation in _PROBABILITIES:
        return (
            f"{activation} gives probabilities, and {loss} was told that they are logits (from_logits=True): it squashed them once more.",
            "train without from_logits, or with a linear output",
        )
    if not from_logits and activation not in _PROBABILITIES:
        return (
            f"its values come from a {activation} layer and are no probabilities, but {loss} took them for such (from_logits is not set).",
            "apply softmax or sigmoid to what it predicts, and train with from_logits=True",
        )
    if loss in _CATEGORICAL and activation in _PROBABILITIES - {"softmax"}:
        return (
            f"{activation} with {loss}: the classes do not compete, so their probabilities need not add up to 1.",
            "train with softmax, or with binary_crossentropy where several classes may be true at once",
        )
    return None


def _losses(loss: Any, outputs: tuple[ModelOutput, ...]) -> list[Any]:
    """The loss of each output: one for all, a list in their order, or by the names of their layers."""
    if isinstance(loss, list) and len(loss) == len(outputs):
        return loss
    if isinstance(loss, Mapping) and "class_name" not in loss:
        return [loss.get(output.layer) for output in outputs]
    return [loss] * len(outputs)


def _read(loss: Any) -> tuple[str, bool]:
    """The loss in snake case, and whether it was told to take logits."""
    settings: Any = {}
    if isinstance(loss, Mapping):
        settings = loss.get("config")
        loss = settings if isinstance(settings, str) else loss.get("class_name")
    if not isinstance(loss, str):
        return "", False
    from_logits = isinstance(settings, Mapping) and settings.get("from_logits") is True
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in loss[:60]).lstrip("_")
    return words, from_logits
