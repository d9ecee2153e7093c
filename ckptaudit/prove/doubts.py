"""What a plan leaves open: modules in doubt, what of the file could be meant by each, and how one of these is put in place.

Who decides between them is no matter here: :mod:`ckptaudit.prove.settling` runs the model that wrote the file beside the model,
:mod:`ckptaudit.prove.settling_by_statistics` compares what reaches each BatchNorm with what it remembers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ckptaudit.graph.names import parent
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    import torch

    from ckptaudit.align import Alignment
    from ckptaudit.graph import LayerGraph
    from ckptaudit.plan import Plan, Step
    from ckptaudit.read import Checkpoint

#: Each tensor that a module in doubt gets as the plan has it → the one that it would get.
Rival = Mapping[str, str]
#: What the evidence of a settled step begins with.
BY_RUNNING, BY_STATISTICS = "both models were run", "what reaches BatchNorm fits what it remembers"
#: Values in double precision that agree to eight digits in four figures are the same; statistics that agree while no others do, too.
_CONFIDENCE = 0.99


@dataclass(frozen=True, eq=False)
class Doubt:
    """A module of the model with ambiguous steps, all from one module of the file.

    Attributes
    ----------
    path:
        Where it lies in the model.
    steps:
        Those of its steps that are ambiguous.
    own:
        The module of the file that the plan takes.
    rivals:
        Every module of the file that could be meant, that one among them.
    """

    path: str
    steps: tuple[Step, ...]
    own: str
    rivals: Mapping[str, Rival]

    def taking(self, rival: Rival) -> tuple[Step, ...]:
        """Its steps, with what a rival gives as their sources; still ambiguous."""
        return tuple(replace(step, sources=(rival[step.sources[0]],)) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one module in doubt.

    Attributes
    ----------
    path, source:
        Where it lies in the model, and the module of the file that fits best.
    sure:
        The figures decide for it.
    why:
        The figures, in words.
    """

    path: str
    source: str
    sure: bool
    why: str


def doubts_of(plan: Plan, graph: LayerGraph) -> dict[str, Doubt]:
    """The modules in doubt by their paths: only those whose ambiguous steps all come from one module of the file, one tensor each."""
    found: dict[str, list[Step]] = defaultdict(list)
    for step in plan.steps:
        if not step.sure:
            found[parent(step.target)].append(step)
    used = {name for step in plan.steps if step.sure for name in step.sources}
    return {
        path: Doubt(path, tuple(steps), parent(steps[0].sources[0]), _rivals(steps, graph, used))
        for path, steps in found.items()
        if len({parent(name) for step in steps for name in step.sources}) == 1 and all(len(step.sources) == 1 for step in steps)
    }


def _rivals(steps: Sequence[Step], graph: LayerGraph, used: set[str]) -> dict[str, Rival]:
    """Every module of the file with tensors of these roles and shapes that no sure step takes."""
    own = graph.by_path[parent(steps[0].sources[0])]
    roles = {spec.name: (role, spec.shape) for role, spec in own.tensors.items()}
    wanted = {step.sources[0]: roles[step.sources[0]] for step in steps}
    found: dict[str, Rival] = {}
    for layer in graph.layers:
        if all(role in layer.tensors and layer.tensors[role].shape == shape for role, shape in wanted.values()):
            names = {name: layer.tensors[role].name for name, (role, _) in wanted.items()}
            if used.isdisjoint(names.values()):
                found[layer.path] = names
    return found


def put(target: torch.nn.Module, steps: Iterable[Step], plan: Plan, checkpoint: Checkpoint) -> None:
    """Give the model's tensors the values that steps of a plan like this one give."""
    state = target.state_dict()
    for name, values in replace(plan, steps=tuple(steps)).apply(checkpoint, as_torch=True, allow_ambiguous=True, check=False).items():
        state[name].copy_(values)


def decided(step: Step, told: str) -> Step:
    """The same step, sure, for this reason."""
    return replace(step, grade="decided", confidence=_CONFIDENCE, evidence=(told,), runner_up=None)


def with_settled(alignment: Alignment, settled: Mapping[str, Step], checkpoint: LayerGraph, model: LayerGraph) -> Alignment:
    """The alignment with these steps; what they take is no longer to be had for the ambiguous pairs that are left."""
    taken = {name for pair in settled.values() for name in pair.sources}
    pairs = {
        name: settled.get(name, pair)
        for name, pair in alignment.pairs.items()
        if name in settled or pair.sure or taken.isdisjoint(pair.sources)
    }
    return alignment.with_pairs(pairs, checkpoint, model)
