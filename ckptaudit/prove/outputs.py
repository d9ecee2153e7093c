"""Both models on the same random input: equal outputs prove a plan; layers compared one by one show where they part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph.names import parent
from ckptaudit.prove.networks import common_inputs, tensors_of, uncompiled
from ckptaudit.prove.proof import NOT_RUN, Difference, Outputs
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import torch

    from ckptaudit.plan import Plan

#: Equality, in units of the output's standard deviation. In double precision another order of summation leaves about 1e-12, another eps
#: of a BatchNorm 1e-6 and more; code that insists on single precision leaves about 1e-5.
TOLERANCES = {"float64": 1e-8, "float32": 1e-4}
REORDERED = "the outputs are equal, but not in the same order: heads of one shape may be exchanged"
#: Steps that compute new values round them to the file's precision: the outputs differ by that, whatever the models compute in.
_COMPUTING = frozenset({"fuse", "inflate", "interpolate", "merge"})
_DIGITS_OF_STEPS = "float32"


@dataclass(frozen=True, slots=True)
class Digest:
    """What a tensor holds, whatever the order of its values: their number, sum, root mean square, least and largest."""

    count: int
    mean: float
    scale: float
    least: float
    largest: float

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Digest:
        """Look at a tensor."""
        values = tensor.detach().double()
        if not values.numel():
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        return cls(values.numel(), float(values.mean()), float(values.square().mean().sqrt()), float(values.min()), float(values.max()))

    def agrees(self, other: Digest, tolerance: float) -> bool:
        """Whether the values may be the same but for rounding."""
        allowed = tolerance * max(self.scale, other.scale, 1e-30) * 10
        mine, theirs = (self.mean, self.scale, self.least, self.largest), (other.mean, other.scale, other.least, other.largest)
        return self.count == other.count and all(abs(a - b) <= allowed or a == b for a, b in zip(mine, theirs, strict=True))


@dataclass(eq=False)
class Run:
    """One forward pass: its outputs, and by layer what went in and what came out, in the order of computation."""

    outputs: list[torch.Tensor]
    layers: dict[str, list[tuple[Digest, Digest]]]


def run(module: torch.nn.Module, inputs: tuple[Any, ...], watched: Sequence[str]) -> Run:
    """Run a module in evaluation mode and watch some of its layers."""
    import torch

    layers: dict[str, list[tuple[Digest, Digest]]] = {}
    given: dict[str, list[Digest]] = {}

    def before(path: str) -> Any:
        def hook(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensors = tensors_of([*args, *kwargs.values()])
            given.setdefault(path, []).append(Digest.of(tensors[0]) if tensors else Digest.of(torch.empty(0)))

        return hook

    def after(path: str) -> Any:
        def hook(_: object, __: object, output: Any) -> None:
            tensors = tensors_of(output)
            if tensors and given.get(path):
                layers.setdefault(path, []).append((given[path].pop(), Digest.of(tensors[0])))

        return hook

    with ExitStack() as stack:
        for path in watched:
            child = module.get_submodule(path)
            stack.callback(child.register_forward_pre_hook(before(path), with_kwargs=True).remove)
            stack.callback(child.register_forward_hook(after(path)).remove)
        with torch.no_grad(), output_to_stderr(), uncompiled():
            outputs = [tensor.detach() for tensor in tensors_of(module(*inputs))]
    return Run(outputs, layers)


def compare_outputs(
    source: torch.nn.Module, target: torch.nn.Module, plan: Plan, layers: Mapping[str, str], input_size: Sequence[int] | None = None
) -> Outputs:
    """Run both restored models on the same input.

    Parameters
    ----------
    source, target:
        The model that wrote the file, and the one that was restored by ``plan``.
    layers:
        Of the target those that are compared one by one, each with its counterpart in the source.

    Raises
    ------
    ArchitectureError
        No input that was tried is accepted by both, or no output of one has the shape of an output of the other.
    """
    reasons: list[str] = []
    with isolated(type(target).__name__):
        for dtype, inputs in common_inputs(source, target, input_size):
            try:
                ours = run(target, inputs, list(layers))
                theirs = run(source, inputs, list(dict.fromkeys(layers.values())))
            except (Exception, SystemExit) as error:
                reasons.append(describe_error(error))
                continue
            computing = any(op.name in _COMPUTING for step in plan.steps for op in step.ops)
            return _compared(ours, theirs, layers, inputs, dtype, TOLERANCES[_DIGITS_OF_STEPS if computing else dtype])
    guessed = "" if input_size is not None else "; sizes were guessed: give input_size (--input-size at the prompt)"
    raise ArchitectureError(f"{NOT_RUN[0]}: {reasons[0] if reasons else 'there is none to try'}{guessed}")


def _compared(ours: Run, theirs: Run, layers: Mapping[str, str], inputs: tuple[Any, ...], dtype: str, tolerance: float) -> Outputs:
    outputs = [tensor for tensor in ours.outputs if tensor.is_floating_point() and tensor.numel()]
    if outputs and not any(depends_on_input(tensor) for tensor in outputs):
        raise ArchitectureError("the outputs are the same for different inputs: they show nothing of the layers before")
    known = distances(outputs, theirs.outputs)
    if not known:
        raise ArchitectureError("no output of one model has the shape of an output of the other")
    if max(known) > tolerance and in_another_order(outputs, theirs.outputs, tolerance):
        raise ArchitectureError(REORDERED)
    same, first, last, compared = 0, None, "", 0
    for path, passes in ours.layers.items():
        counterpart = theirs.layers.get(layers[path])
        if counterpart is None:  # its tensors are used there, the module itself is not called
            continue
        compared += 1
        if len(counterpart) == len(passes) and all(a[1].agrees(b[1], tolerance) for a, b in zip(passes, counterpart, strict=True)):
            same += 1
            last = path if first is None else last
        elif first is None:
            inside = len(counterpart) == len(passes) and all(a[0].agrees(b[0], tolerance) for a, b in zip(passes, counterpart, strict=True))
            first = Difference(path, layers[path], inside, last)
    return Outputs(
        equal=len(known) == len(outputs) and max(known) <= tolerance,
        compared=len(known),
        difference=max(known),
        tolerance=tolerance,
        inputs=tuple(tuple(value.shape) for value in inputs),
        dtype=dtype,
        layers=(compared, same),
        first=first,
    )


def equal_outputs(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Whether every output of one model is an output of the other, and at least one says something of its input."""
    outputs = [tensor for tensor in ours if tensor.is_floating_point() and tensor.numel()]
    known = distances(outputs, theirs)
    return any(map(depends_on_input, outputs)) and len(known) == len(outputs) and max(known) <= tolerance


def distances(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> list[float]:
    """Of each output of ours the distance to its counterpart; those of a shape that none of theirs has are left out.

    Several outputs of one shape correspond in their order: heads that were exchanged give the same values in another one.
    """
    found: list[float] = []
    begin: dict[tuple[int, ...], int] = {}
    count = Counter(tuple(tensor.shape) for tensor in ours)
    for tensor in ours:
        shape = tuple(tensor.shape)
        others = [at for at, other in enumerate(theirs) if tuple(other.shape) == shape]
        if not others:
            continue
        left = [at for at in others if at >= begin.get(shape, 0)]
        if count[shape] == len(others):
            left = left[:1]
        distance, at = min(((distance_between(tensor, theirs[at]), at) for at in left), default=(inf, len(theirs)))
        begin[shape] = at + 1
        found.append(distance)
    return found


def in_another_order(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Whether every output of ours that has the shape of one of theirs is equal to one, whatever their order."""
    return all(
        any(distance_between(tensor, other) <= tolerance for other in theirs if other.shape == tensor.shape)
        for tensor in ours
        if any(other.shape == tensor.shape for other in theirs)
    )


def depends_on_input(output: torch.Tensor) -> bool:
    """Whether it differs between the inputs of a batch; an output that has no such dimension is taken to."""
    return output.dim() == 0 or len(output) < 2 or not bool((output[0] == output[1]).all())


def distance_between(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference in units of the standard deviation; infinite where one is not finite and the other is."""
    torch = _torch()
    if not torch.equal(torch.isfinite(ours), torch.isfinite(theirs)):
        return float("inf")
    finite = torch.isfinite(ours)
    if not bool(finite.any()):
        return float("inf")  # outputs of which nothing is known show nothing
    a, b = ours[finite].double(), theirs[finite].double()
    spread = float(b.std()) if b.numel() > 1 else 0.0
    return float((a - b).abs().max()) / (spread or float(b.abs().max()) or 1.0)


def counterparts(plan: Plan, own: Plan) -> dict[str, str]:
    """Layers of the model all of whose tensors come from one layer of the model that wrote the file, with that layer.

    ``own`` is the plan from the file to the model that wrote it, whose names may be other ones than the file's.
    """
    layer_of = {name: parent(step.target) for step in own.steps for name in step.sources}
    found: dict[str, set[str | None]] = {}
    for step in plan.steps:
        found.setdefault(parent(step.target), set()).update(layer_of.get(name) for name in step.sources)
    alone = {path: next(iter(layers)) for path, layers in found.items() if len(layers) == 1}
    return {path: there for path, there in alone.items() if there is not None}


def innermost(pairs: Mapping[str, str], source: torch.nn.Module, target: torch.nn.Module) -> dict[str, str]:
    """Of corresponding layers, of the target and of the source, those that contain no other."""
    ours, theirs = ({name for name, module in whole.named_modules() if not list(module.children())} for whole in (target, source))
    return {path: there for path, there in pairs.items() if path in ours and there in theirs}


def _torch() -> Any:
    import torch

    return torch
