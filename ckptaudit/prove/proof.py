"""What a proof says: by which way, how far it reaches, and where the two sides part."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from ckptaudit.records import dataclass

Status = Literal["proved", "consistent", "refuted", "not proved"]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Every step carried out on the real values, and undone.

    Attributes
    ----------
    restored:
        Steps whose sources came back bit for bit, alone or together with the other parts of the same source.
    lossy:
        Targets of steps that nothing undoes: sums, resampling, folding.
    failed:
        Targets of steps that could not be carried out, gave another shape than the model's, or did not give their sources back.
    """

    restored: int
    lossy: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of corresponding layers that is not the same in both models, with the model's layers that have it."""

    name: str
    file: Any
    model: Any
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two models part first, in the order in which the model runs.

    Attributes
    ----------
    layer, counterpart:
        Paths in the model, and in the model that wrote the file.
    inside:
        The layer was given the same and gave something else; otherwise the difference lies before it.
    after:
        The last layer before it whose outputs were the same; ``""`` where there was none.
    """

    layer: str
    counterpart: str
    inside: bool
    after: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """Both models run on the same random input.

    Attributes
    ----------
    equal:
        Every output of the model is an output of the model that wrote the file.
    compared:
        Number of outputs.
    difference:
        Largest difference, in units of the output's standard deviation.
    tolerance:
        Up to which they count as equal.
    inputs:
        Shapes of the input.
    dtype:
        In which both were run.
    layers:
        How many layers were compared one by one, and how many of these gave the same.
    first:
        Where they part first; None where all layers gave the same.
    """

    equal: bool
    compared: int
    difference: float
    tolerance: float
    inputs: tuple[tuple[int, ...], ...]
    dtype: str
    layers: tuple[int, int]
    first: Difference | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What reaches each BatchNorm against what it remembers from training.

    The figure of a layer is the median over its channels of the Kullback-Leibler divergence of two normal distributions, batch ‖ running,
    in nats.

    Attributes
    ----------
    consistent:
        True, False, or None where the figures leave it open.
    typical:
        Half of the layers on their own, behind another BatchNorm, are below this figure.
    telling:
        Whether what does not fit speaks against the plan: the first layer fits, or half of those behind it. Where neither does, these
        images are of another kind than the training's, or the plan is wrong as a whole.
    mean, first:
        Mean over all layers, and the first layer's figure, as the network runs.
    worst, worst_layer:
        The largest figure of a layer on its own, behind another BatchNorm, and whose it is: see :mod:`ckptaudit.prove.agreement`.
    layers, images:
        How many of each.
    preprocessing:
        What was done to the images: the way among the usual ones that agrees best.
    """

    consistent: bool | None
    mean: float
    first: float
    typical: float
    telling: bool
    worst: float
    worst_layer: str
    layers: int
    images: int
    preprocessing: str


#: How the reason begins where models could not be run: both of torch, or one of torch after another kind of network.
NOT_RUN = ("both models could not be run on one input", "the model cannot be run on")


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome.

    Attributes
    ----------
    status:
        ``proved``: outputs are equal. ``consistent``: what reaches each BatchNorm fits what it remembers; the same would be said of deep
        blocks of one shape that were exchanged, as they are fed much the same. ``refuted``: outputs or statistics differ, or the
        arithmetic fails. ``not proved``: nothing could show whether the plan is right. Its statistics do not fit all the same where
        ``by`` is ``statistics``: the plan is wrong as a whole, or the images are of another kind than the training's.
    by:
        What was compared: ``outputs``, ``statistics``, ``arithmetic`` (refuted by it), or ``""``.
    reasons:
        Why a way was not taken, one line each.
    settings:
        What is set otherwise in corresponding layers, whatever the outputs say.
    """

    status: Status
    by: str
    arithmetic: Arithmetic
    outputs: Outputs | None = None
    statistics: Statistics | None = None
    reasons: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def could_not_run(self) -> bool:
        """Whether models were at hand, and could not be run on any input that was tried."""
        return any(reason.startswith(NOT_RUN) for reason in self.reasons)

    @property
    def against(self) -> bool:
        """Whether it speaks against the plan: refuted, or by statistics that do not fit."""
        return self.status == "refuted" or (self.statistics is not None and self.statistics.consistent is False)

    def to_json(self) -> dict[str, Any]:
        """The proof as JSON values, in the form of ``ckptaudit.remap/1``."""
        return asdict(self)
