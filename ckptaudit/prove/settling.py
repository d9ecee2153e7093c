"""Steps that names and shapes leave open, settled by running both models: the same place in a network is given the same input.

Both models are restored as the plan has it. One random input goes through the model that wrote the file, and what each of its modules is
given is noted. Then the same input goes through the model; right before a module runs whose tensors are in doubt, what it is given is
looked up among the notes. If just one module of the file that could be meant was given the same (or of several just one would make the
same of it), that is the one, and its values are put in place, so that what comes behind is given the right input, too. One pass
settles all that can be settled so; if the outputs are equal in the end, all that was run is right. Where tensors of the file are zero,
the same has to come out with other values in their place: what they silence shows in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import ArchitectureError, PlanError
from ckptaudit.graph.names import parent
from ckptaudit.plan import make_plan
from ckptaudit.prove.doubts import BY_RUNNING, Doubt, Rival, decided, doubts_of, put, with_settled
from ckptaudit.prove.networks import common_inputs, own_plan, restore, runnable, tensors_of, uncompiled
from ckptaudit.prove.outputs import TOLERANCES, Digest, equal_outputs
from ckptaudit.prove.zeros import with_other_values, zeros_of
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    import torch

    from ckptaudit.align import Alignment
    from ckptaudit.arch import Model
    from ckptaudit.plan import Plan, Step
    from ckptaudit.read import Checkpoint


def settle(alignment: Alignment, checkpoint: Checkpoint, model: Model, source: Model, input_size: Sequence[int] | None = None) -> Alignment:
    """The alignment with those ambiguous pairs decided that running both models settles, and their sources exchanged where they were wrong.

    Parameters
    ----------
    checkpoint, model, source, input_size:
        As for :func:`ckptaudit.prove.prove_plan`. Where they cannot be run, the alignment stays as it is; proving says why.
    """
    plan = make_plan(alignment, checkpoint.graph, model.graph)
    doubts = doubts_of(plan, checkpoint.graph)
    if not doubts:
        return alignment
    try:
        settled = _run(plan, checkpoint, model, source, doubts, input_size)
        if settled and (zeros := zeros_of(plan, checkpoint)):
            others = _run(plan, with_other_values(checkpoint, zeros), model, source, doubts, input_size)
            settled = {name: step for name, step in settled.items() if name in others and others[name].sources == step.sources}
    except (ArchitectureError, PlanError):
        return alignment
    return with_settled(alignment, settled, checkpoint.graph, model.graph)


@dataclass(eq=False)
class _Pass:
    """One pass of one input through both models, and what it settled: steps by their targets."""

    plan: Plan
    checkpoint: Checkpoint
    target: torch.nn.Module
    doubts: Mapping[str, Doubt]
    watched: Mapping[str, str]
    tolerance: float
    seen: dict[str, Digest] = field(default_factory=dict)
    made: dict[str, Digest] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    decided: dict[str, Step] = field(default_factory=dict)
    #: Of what is decided, what ran behind a module that is not: it was given what a guess makes, and two guesses may fit each other.
    behind_open: set[str] = field(default_factory=set)
    open: bool = False

    def watch_source(self, module: torch.nn.Module) -> ExitStack:
        """Note what each module is given and what it makes of it, the first time that it runs."""
        stack = ExitStack()
        for path in self.watched.values():
            child = module.get_submodule(path)

            def given(_: object, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path) -> None:
                if tensors := tensors_of([*args, *kwargs.values()]):
                    self.seen.setdefault(path, Digest.of(tensors[0]))

            def made(_: object, __: object, output: Any, path: str = path) -> None:
                if tensors := tensors_of(output):
                    self.made.setdefault(path, Digest.of(tensors[0]))

            stack.callback(child.register_forward_pre_hook(given, with_kwargs=True).remove)
            stack.callback(child.register_forward_hook(made).remove)
        return stack

    def watch_target(self) -> ExitStack:
        """Settle each module in doubt right before it runs."""
        stack = ExitStack()
        for path in self.doubts:

            def given(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path) -> None:
                if path not in self.ran and (tensors := tensors_of([*args, *kwargs.values()])):
                    self._settle(path, Digest.of(tensors[0]), lambda: module.forward(*args, **kwargs), leaf=not list(module.children()))
                targets = {step.target for step in self.doubts[path].steps}
                if self.open and path not in self.ran:
                    self.behind_open |= targets
                self.open |= not targets <= self.decided.keys()
                self.ran.add(path)

            stack.callback(self.target.get_submodule(path).register_forward_pre_hook(given, with_kwargs=True).remove)
        return stack

    def _settle(self, path: str, given: Digest, forward: Callable[[], Any], *, leaf: bool) -> None:
        """Put the values in place that belong to a module, if that can be told from what it is given."""
        taken = {name for step in self.decided.values() for name in step.sources}
        left = [rival for rival in self.doubts[path].rivals.values() if taken.isdisjoint(rival.values())]
        if not all(self._place(rival) in self.seen for rival in left):
            return  # tensors of a module that is not called itself: nobody knows what they are given
        agreeing = [rival for rival in left if self.seen[self._place(rival)].agrees(given, self.tolerance)]
        if len(agreeing) > 1 and leaf:
            before = {step.target: self.target.state_dict()[step.target].clone() for step in self.doubts[path].steps}
            making = []
            for rival in agreeing:
                self._put(path, rival)
                tensors = tensors_of(forward())
                made = self.made.get(self._place(rival))
                if tensors and made is not None and made.agrees(Digest.of(tensors[0]), self.tolerance):
                    making.append(rival)
            agreeing = making
            for name, tensor in before.items():
                self.target.state_dict()[name].copy_(tensor)
        if len(agreeing) == 1:
            for step in self._put(path, agreeing[0]):
                self.decided[step.target] = step

    def _put(self, path: str, rival: Rival) -> list[Step]:
        told = f"{BY_RUNNING}, and of {len(self.doubts[path].rivals)} that could be meant it alone is given the same"
        steps = [decided(step, told) for step in self.doubts[path].taking(rival)]
        put(self.target, steps, self.plan, self.checkpoint)
        return steps

    def _place(self, rival: Rival) -> str:
        """Path of a module of the model that wrote the file."""
        return self.watched.get(parent(next(iter(rival.values()))), "")


def _run(
    plan: Plan,
    checkpoint: Checkpoint,
    model: Model,
    source: Model,
    doubts: Mapping[str, Doubt],
    input_size: Sequence[int] | None,
) -> dict[str, Step]:
    """Run both, restored, on the first input that both take; the settled steps by their targets."""
    import torch

    target, theirs = runnable(model), runnable(source)
    own = own_plan(source, checkpoint)
    restore(theirs, own, checkpoint)
    restore(target, plan, checkpoint)
    paths = {path for path, _ in theirs.named_modules()}
    there = {parent(name): parent(step.target) for step in own.steps for name in step.sources}  # by the file's names
    owners = {path for doubt in doubts.values() for path in doubt.rivals}
    watched = {owner: there[owner] for owner in owners if there.get(owner) in paths}
    fresh = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    for dtype, inputs in common_inputs(theirs, target, input_size):
        this = _Pass(plan, checkpoint, target, doubts, watched, TOLERANCES[dtype])
        with isolated(type(target).__name__), torch.no_grad(), output_to_stderr(), uncompiled():
            target.load_state_dict(fresh)
            with this.watch_source(theirs):
                made = _outputs(theirs, inputs)
            with this.watch_target():
                ours = _outputs(target, inputs) if made is not None else None
        if made is None or ours is None:
            continue
        if equal_outputs(ours, made, this.tolerance):
            told = f"{BY_RUNNING}, and give equal outputs"
            left = [step for path in this.ran for step in doubts[path].steps if step.target not in this.decided]
            this.decided.update({step.target: decided(step, told) for step in left})
            return this.decided
        return {name: step for name, step in this.decided.items() if name not in this.behind_open}
    return {}


def _outputs(module: torch.nn.Module, inputs: tuple[Any, ...]) -> list[torch.Tensor] | None:
    try:
        return [tensor.detach() for tensor in tensors_of(module(*inputs))]
    except (Exception, SystemExit):  # whatever a model of somebody raises: this input is not one for it
        return None
