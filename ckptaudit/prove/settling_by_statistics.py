"""Steps that names and shapes leave open, settled by what each BatchNorm remembers: only the right weights before it make that of images.

Images go through the restored model from the front to the back, every BatchNorm scaling by its batch, so that each is a witness of its
own. Where a BatchNorm is reached that is in doubt, or that is given what a layer in doubt makes, everything that could be meant is tried
there: each layer makes its maps of what it is given, and these are held against the statistics of each BatchNorm. What fits far better
than the rest is put in place, and what lies behind is looked at. What fits equally well is followed, each for itself, until the layers
behind tell it from the others. What all that is left in the end agrees in is settled; the rest stays open. As a layer is only tried where
it runs, with all before it in place, the number of trials grows with the square of the layers of one shape, not with their orders.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import ArchitectureError, PlanError
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.plan import make_plan
from ckptaudit.prove.agreement import measure_agreement
from ckptaudit.prove.doubts import BY_STATISTICS, Doubt, Settled, decided, doubts_of, put, with_settled
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.networks import restore, runnable
from ckptaudit.prove.presets import PRESETS, prepared
from ckptaudit.prove.running import Moments, TorchNetwork, divergences, moments_of
from ckptaudit.prove.statistics import AGREES, DISAGREES, image_size
from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    import torch

    from ckptaudit.align import Alignment
    from ckptaudit.arch import Model
    from ckptaudit.plan import Plan, Step
    from ckptaudit.read import Checkpoint

#: What fits this many times worse than the best is out, unless it fits within the noise. Chosen on the ResNet-20 for CIFAR-10 and the
#: ESPNetv2 for PASCAL: the best wrong choice came to 4.4 times the right one and 0.014 nats, and more; where both were less than
#: 0.02 nats, a wrong choice came before the right one (`benchmarks/settling_cases.py`).
_WORSE, _NOISE = 4.0, 0.02
#: A whole order of layers is out that many times worse where it is also worse by this, summed over all BatchNorms from where they part.
_SUM = 0.05
#: Orders that are followed at once: where more are as good as each other, what they differ in stays open, and all behind it.
_ORDERS = 32
#: Nats at a layer that sees the input: its kind of images leaves 0.1 to 0.4, the weights of another layer 0.6 and more.
INPUT_FITS = 0.5
#: What was made by so many layers in doubt is kept until a BatchNorm asks for it.
_KEPT = 8
#: Pixels of all crops together, and how many crops that may be: deep layers need images, flat ones pixels.
_PIXELS, _LEAST, _MOST = 12 * 224 * 224, 6, 120


def settle_by_statistics(
    alignment: Alignment,
    checkpoint: Checkpoint,
    model: Model,
    images: Path,
    input_size: Sequence[int] | None = None,
    budget: float = 120.0,
) -> tuple[Alignment, tuple[Settled, ...]]:
    """The alignment with those ambiguous pairs decided that BatchNorm statistics settle, and their sources exchanged where they were wrong.

    Also what was tried, in the order of computation, and what came of it.

    Parameters
    ----------
    checkpoint, model:
        What is restored, and into what. Where it cannot be run, or has no statistics, the alignment stays as it is; proving says why.
    images:
        A folder of ordinary images.
    input_size:
        Channels, height and width of one image; guessed where it is not given.
    budget:
        Seconds after which what is not settled stays open.

    Raises
    ------
    ImagesError
        The folder holds no images, or the model takes no images of three channels.
    """
    until = time.monotonic() + budget
    plan = make_plan(alignment, checkpoint.graph, model.graph)
    doubts = _without_holes(doubts_of(plan, checkpoint.graph), alignment, model)
    if not doubts:
        return alignment, ()
    try:
        target = runnable(model)
        restore(target, plan, checkpoint)
        network = TorchNetwork(target)
        if not network.norms():
            return alignment, ()
        size = image_size(network, input_size)
        count = max(_LEAST, min(_MOST, _PIXELS // (size[0] * size[1])))
        pixels = pixels_of(crops(image_files(images), count), size)
        search = _Search(network, plan, checkpoint, doubts, until)
        steps, tried = search.settled(min((prepared(pixels, way) for way in PRESETS.values()), key=search.fit_at_the_first))
    except (ArchitectureError, PlanError):
        return alignment, ()
    return with_settled(alignment, steps, checkpoint.graph, model.graph), tried


def _without_holes(doubts: Mapping[str, Doubt], alignment: Alignment, model: Model) -> dict[str, Doubt]:
    """Those of which as many places are in doubt as layers that could be meant.

    Where one side has more, something is left out, and what fits need not belong: of two networks of other depths, many a layer fits.
    """
    placed = {doubt.own for doubt in doubts.values()}
    shapes = {name: spec.shape for name, spec in model.graph.tensors.items()}
    unset = {(leaf(name), shapes[name]) for name in alignment.unmatched_target if leaf(name) not in DERIVED_BUFFERS}
    return {
        path: doubt
        for path, doubt in doubts.items()
        if placed.issuperset(doubt.rivals) and not any((leaf(step.target), shapes[step.target]) in unset for step in doubt.steps)
    }


@dataclass(frozen=True, slots=True)
class _Trial:
    """What was chosen at one BatchNorm: modules of the file by modules in doubt, how well it fits, and how well the next best would."""

    chosen: Mapping[str, str]
    figure: float
    sees_input: bool
    others: Mapping[str, tuple[float, str] | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Order:
    """One way to place what is in doubt: everything placed, and the trials so far, one for each BatchNorm in the order of computation."""

    placed: Mapping[str, str]
    trials: tuple[_Trial, ...] = ()

    @property
    def chosen(self) -> dict[str, str]:
        """What was tried and taken, rather than placed as the plan had it."""
        return {path: source for trial in self.trials for path, source in trial.chosen.items()}

    @property
    def total(self) -> float:
        """Nats of all BatchNorms behind another one."""
        return sum(trial.figure for trial in self.trials if not trial.sees_input)

    def since_parting(self, other: _Order) -> float:
        """The same from the first choice on in which it differs from another order."""
        first = next((i for i, (a, b) in enumerate(zip(self.trials, other.trials, strict=False)) if a.chosen != b.chosen), len(self.trials))
        return sum(trial.figure for trial in self.trials[first:] if not trial.sees_input)

    def taking(self, trial: _Trial, doubts: Mapping[str, Doubt]) -> _Order:
        """The order with one more trial: who had what is taken now gets what was there, if it could be meant."""
        placed = dict(self.placed)
        for path, source in trial.chosen.items():
            before = placed.get(path)
            holder = next((other for other, held in placed.items() if held == source and other != path), None)
            placed[path] = source
            if holder is not None:
                del placed[holder]
                if before is not None and before in doubts[holder].rivals:
                    placed[holder] = before
        return _Order(placed, (*self.trials, trial))


class _EnoughError(Exception):
    """What was asked of this pass has been seen."""


@dataclass(eq=False)
class _Search:
    """Orders of what is in doubt, followed from the front of the network to its back."""

    network: TorchNetwork
    plan: Plan
    checkpoint: Checkpoint
    doubts: Mapping[str, Doubt]
    until: float
    _sees_input: Mapping[str, bool] = field(default_factory=dict)
    _in_place: dict[str, str] = field(default_factory=dict)
    _remembered: dict[tuple[str, str], Moments] = field(default_factory=dict)
    _own: Mapping[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._own = self.network.norms()

    def fit_at_the_first(self, images: Any) -> float:
        """How well images fed in this way could at best fit the first BatchNorm, in nats."""
        found, _ = self._follow(_Order(self._as_planned()), images, through=False)
        return min((order.trials[0].figure for order in found), default=float("inf"))

    def settled(self, images: Any) -> tuple[dict[str, Step], tuple[Settled, ...]]:
        """Steps by their targets: those that are settled, and ambiguous ones whose sources were exchanged, or that figures leave open.

        Also what was tried.
        """
        agreement = measure_agreement(self.network, images[: max(_LEAST, 2)], _LEAST)
        self._sees_input = {layer.path: layer.sees_input for layer in agreement.layers} if agreement is not None else {}
        left = self._orders(images)
        best = min(left, key=lambda order: order.total)
        self._place(_Order(self._as_planned()))
        sure = {path: source for path, source in best.chosen.items() if all(order.chosen.get(path) == source for order in left)}
        told = {
            path: Settled(path, source, path in sure, _told(trial, path, path in sure))
            for trial in best.trials
            for path, source in trial.chosen.items()
        }
        steps: dict[str, Step] = {}
        for path, source in best.placed.items():
            doubt = self.doubts[path]
            for step in doubt.taking(doubt.rivals[source]):
                if path in sure:
                    steps[step.target] = decided(step, f"{BY_STATISTICS}: {told[path].why}")
                elif path in told:
                    open_ = f"what reaches BatchNorm leaves it open: {told[path].why}"
                    steps[step.target] = replace(step, evidence=(*step.evidence, open_), runner_up=None)
                elif source != doubt.own:
                    steps[step.target] = replace(step, evidence=("what it was paired with belongs elsewhere",), runner_up=None)
        return steps, tuple(told.values())

    def _as_planned(self) -> dict[str, str]:
        return {path: doubt.own for path, doubt in self.doubts.items()}

    def _orders(self, images: Any) -> list[_Order]:
        """Follow all orders that are as good as the best as far as can be told."""
        left, how = [_Order(self._as_planned())], ""
        while time.monotonic() < self.until and how == "" and len(left) <= _ORDERS:
            followed: list[_Order] = []
            for order in left:
                found, how = self._follow(order, images, through=len(left) == 1)
                followed += found
            # These images may be too strange for a layer, or what lies before it is not right: then nothing behind it can be told.
            if not followed or (len(left) > 1 and min(order.trials[-1].figure for order in followed) > _limits(followed[0].trials[-1])[0]):
                break
            left, how = _without_worse(followed), how if len(left) == 1 else how.replace("no fit", "")
        return left

    def _follow(self, order: _Order, images: Any, *, through: bool) -> tuple[list[_Order], str]:
        """Run an order up to the BatchNorm after those that it has trials of, and give what may follow there.

        Parameters
        ----------
        order:
            Nothing follows where nothing fits.
        images:
            (images, channels, height, width), as the network wants them.
        through:
            Go on as long as one thing alone may follow; where nothing fits any more, the order up to there is given.

        Returns
        -------
        tuple
            What may follow, and why there is no more to try: ``"the end"``, ``"no fit"``, or ``""``.
        """
        import numpy
        import torch

        self._place(order)
        made: deque[tuple[str, torch.Tensor, tuple[Any, ...]]] = deque(maxlen=_KEPT)
        seen: set[str] = set()
        found, how = [order], "the end"

        def making(path: str) -> Any:
            def hook(_: object, args: tuple[Any, ...], output: Any) -> None:
                if isinstance(output, torch.Tensor):
                    made.append((path, output, args))

            return hook

        def reaching(path: str) -> Any:
            def hook(_: object, args: tuple[Any, ...]) -> None:
                nonlocal found, how
                first = path not in seen
                seen.add(path)
                if not first or len(seen) <= len(order.trials):
                    return
                maker = next(((name, given) for name, output, given in made if output is args[0]), None)
                trials = self._trials(found[0], path, args[0], maker)
                if not trials:
                    found, how = found if through else [], "no fit"
                    raise _EnoughError
                found = [found[0].taking(trial, self.doubts) for trial in trials]
                if not through or len(found) > 1 or time.monotonic() > self.until:
                    how = ""
                    raise _EnoughError
                self._place(found[0])
                if maker is not None and maker[0] in trials[0].chosen:
                    args[0].copy_(self._module(maker[0]).forward(*maker[1]))

            return hook

        norms = self.network.norms()
        with ExitStack() as stack:
            stack.enter_context(isolated(type(self.network.module).__name__))
            stack.enter_context(torch.no_grad())
            stack.enter_context(self.network.alone())
            for path in self.doubts:
                if path not in norms and not list(self._module(path).children()):
                    stack.callback(self._module(path).register_forward_hook(making(path)).remove)
            for path in norms:
                stack.callback(self._module(path).register_forward_pre_hook(reaching(path)).remove)
            try:
                with output_to_stderr():
                    self.network.module(torch.from_numpy(numpy.ascontiguousarray(images)))
            except _EnoughError:
                pass
            except Exception as error:
                raise ArchitectureError(f"the model cannot be run: {describe_error(error)}") from None
        return found, how

    def _trials(self, order: _Order, norm: str, values: torch.Tensor, maker: tuple[str, tuple[Any, ...]] | None) -> list[_Trial]:
        """What may be chosen at a BatchNorm and for the layer that makes what it is given: what fits best, and what fits about as well."""
        chosen = order.chosen
        taken = set(chosen.values())
        places = [path for path in (*(maker[:1] if maker else ()), norm) if path in self.doubts and path not in chosen]
        figures: dict[tuple[str, ...], float] = {}
        for source in self._free(maker[0], taken) if maker is not None and maker[0] in places else [None]:
            if maker is not None and source is not None:
                self._put(maker[0], source)
                values = self._module(maker[0]).forward(*maker[1])
            count, mean, var = moments_of(values)
            for other in self._free(norm, taken) if norm in places else [None]:
                figure = divergences({norm: Moments(count, mean, var)}, {norm: self._remembers(norm, other)})[norm]
                figures[tuple(name for name in (source, other) if name is not None)] = figure
        self._place(order)
        best = min(figures.values(), default=float("inf"))
        sees_input = self._sees_input.get(norm, True)
        agrees, at_most = _limits(_Trial({}, best, sees_input))
        if best > (agrees if places else at_most):
            return []
        kept = []
        for names, figure in figures.items():
            if figure <= min(_limit(best), max(at_most, best)):
                others = {
                    path: min(((f, rival[i]) for rival, f in figures.items() if rival[i] != names[i]), default=None)
                    for i, path in enumerate(places)
                }
                kept.append(_Trial(dict(zip(places, names, strict=True)), figure, sees_input, others))
        return kept

    def _free(self, path: str, taken: set[str]) -> list[str | None]:
        return [source for source in self.doubts[path].rivals if source not in taken]

    def _module(self, path: str) -> Any:
        return self.network.module.get_submodule(path)

    def _place(self, order: _Order) -> None:
        for path, source in order.placed.items():
            self._put(path, source)

    def _put(self, path: str, source: str) -> None:
        """Put what a module of the file holds into one of the model, unless it is there."""
        doubt = self.doubts[path]
        if self._in_place.get(path, doubt.own) != source:
            put(self.network.module, doubt.taking(doubt.rivals[source]), self.plan, self.checkpoint)
            self._in_place[path] = source

    def _remembers(self, norm: str, source: str | None) -> Moments:
        """What a BatchNorm remembers, with the statistics of a module of the file where these are in doubt."""
        key = (norm, source or "")
        if key not in self._remembered:
            moments = self._own[norm]
            if source is not None:
                doubt = self.doubts[norm]
                steps = [step for step in doubt.taking(doubt.rivals[source]) if leaf(step.target) in ("running_mean", "running_var")]
                values = replace(self.plan, steps=tuple(steps)).apply(self.checkpoint, allow_ambiguous=True, check=False)
                mean, var = (values.get(f"{norm}.{role}") for role in ("running_mean", "running_var"))
                moments = Moments(
                    1, moments.mean if mean is None else mean.astype(float), moments.var if var is None else var.astype(float)
                )
            self._remembered[key] = moments
        return self._remembered[key]


def _told(trial: _Trial, path: str, sure: bool) -> str:
    """The margin of a choice, in words."""
    other = trial.others.get(path)
    if other is None:
        return f"divergence {trial.figure:.2g}, and nothing else is left" + ("" if sure else " where the others are as they are here")
    figure, name = other
    margin = f"divergence {trial.figure:.2g}, of the next best (`{name}`) {figure:.2g}"
    return margin if not sure or figure > _limit(trial.figure) else f"{margin}, with which layers behind it do not fit"


def _limit(best: float) -> float:
    """Up to which figure something fits as well as the best."""
    return max(_WORSE * best, _NOISE)


def _limits(trial: _Trial) -> tuple[float, float]:
    """Up to which figure something fits at all, and from which on it does not."""
    return (INPUT_FITS, float("inf")) if trial.sees_input else (AGREES, DISAGREES)


def _without_worse(orders: Sequence[_Order]) -> list[_Order]:
    """Those that no other is far better than, from where they part."""
    best = min(orders, key=lambda order: order.total)
    return [order for order in orders if order is best or not _far_worse(order.since_parting(best), best.since_parting(order))]


def _far_worse(figure: float, best: float) -> bool:
    return figure >= _WORSE * best and figure - best >= _SUM
