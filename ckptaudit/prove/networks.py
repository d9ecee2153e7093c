"""Models with values: built, restored, and given inputs that they accept."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ckptaudit.align import align, align_by_name
from ckptaudit.align.by_name.wrappers import unwrap
from ckptaudit.arch import build_model
from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.keras_values import value_of, variables_of
from ckptaudit.arch.live import is_keras_model
from ckptaudit.arch.model import SELF
from ckptaudit.arch.trace import usual_inputs
from ckptaudit.errors import ArchitectureError, PlanError
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import is_under, leaf, parent
from ckptaudit.plan import make_plan
from ckptaudit.plan.applying import step_result
from ckptaudit.plan.plan import keeps_rows

if TYPE_CHECKING:
    import torch

    from ckptaudit.align import Alignment
    from ckptaudit.align.pairs import Scope
    from ckptaudit.arch import Model
    from ckptaudit.graph import TensorSpec
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint


def runnable(model: Model) -> torch.nn.Module:
    """The model's own module with values, in a copy where the caller holds it.

    Raises
    ------
    ArchitectureError
        It comes from a file, it is no torch model, or it cannot be copied.
    """
    if model.graph.framework == "keras":  # on one of its backends it is a torch module, too
        raise ArchitectureError(
            f"{model.arch} is a Keras model: only its outputs are looked at (source_arch, --source-arch at the prompt), "
            "and by `ckptaudit probe`"
        )
    if model.source == "object" and model.module is not None:
        try:
            module = copy.deepcopy(model.module)
        except Exception as error:  # whatever a model of somebody holds
            raise ArchitectureError(f"{model.arch} cannot be copied: {describe_error(error)}") from None
    elif model.provenance == "file":
        raise ArchitectureError(f"{model.arch} comes from a file and cannot be run")
    else:
        module = build_model(model.arch, model.arguments, real=True).module
    if module is None or not hasattr(module, "load_state_dict"):
        raise ArchitectureError(f"{model.arch} is no torch model, and others are not run")
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ArchitectureError(f"{model.arch} has tensors without values")
    return module.cpu().eval()


def restore(module: torch.nn.Module, plan: Plan, checkpoint: Checkpoint) -> None:
    """Put the plan's values into a module of ours.

    Raises
    ------
    PlanError
        A step cannot be carried out, or the module does not take its result.
    """
    initial = dict(module.state_dict())
    values = plan.apply(checkpoint, as_torch=True, allow_ambiguous=True, initial=initial, check=False)
    _refuse_unknown(plan, initial)
    try:
        module.load_state_dict(values, strict=False)
    except RuntimeError as error:
        raise PlanError(str(error).splitlines()[-1].strip()) from None


def keras_with_values(model: Model, plan: Plan, checkpoint: Checkpoint) -> Any:
    """A Keras model, built for real, with the values of the plan put in.

    Parameters
    ----------
    model:
        A name that is built anew, or what a file describes, rebuilt with values.

    Raises
    ------
    ArchitectureError
        It is live, and so not ours to change, comes from a file, or cannot be built.
    PlanError
        A step cannot be carried out.
    """
    if model.source == "object":
        raise ArchitectureError(f"{model.arch} is a live Keras model, which is not copied: name what builds it")
    if model.provenance == "file":
        raise ArchitectureError(f"{model.arch} comes from a file and cannot be run")
    built = model.module if model.source == SELF else build_model(model.arch, model.arguments, real=True).module
    if not is_keras_model(built):
        raise ArchitectureError(f"{model.arch} was not built as a Keras model")
    variables = variables_of(built)
    _refuse_unknown(plan, variables)
    for step in plan.steps:
        variable = variables[step.target]
        kept = keeps_rows(step)
        value = step_result(step, checkpoint, {step.target: value_of(variable)} if kept else None)
        if tuple(value.shape) != tuple(variable.shape):
            raise PlanError(f"{step.target}: the plan gives the shape {value.shape}, the model has {tuple(variable.shape)}")
        variable.assign(value)
    return built


def _refuse_unknown(plan: Plan, known: Collection[str]) -> None:
    """Raise PlanError where a plan, which may have been edited, sets what the model does not have."""
    unknown = [step.target for step in plan.steps if step.target not in known]
    if unknown:
        raise PlanError(f"the plan sets {unknown[0]}, which the model does not have")


def own_plan(model: Model, checkpoint: Checkpoint) -> Plan:
    """The plan by names alone for the model that wrote the file; between Keras and Keras also by the order of layers.

    Raises
    ------
    PlanError
        The file does not set all of it, or calls a module within it otherwise: it was written by another model.
    """
    by_names = model.graph.framework != "keras"
    alignment = (align_by_name if by_names else align)(checkpoint.graph, model.graph)
    plan = make_plan(alignment, checkpoint.graph, model.graph)
    if by_names and (renamed := _renamed_inside(alignment, plan)) is not None:
        raise PlanError(
            f"{model.arch} did not write {checkpoint.path.name}: the file does not set {renamed.target}, and to take its "
            f"{renamed.source} for that is as much a guess as the plan"
        )
    needed = [name for name in plan.initial if leaf(name) not in DERIVED_BUFFERS]
    if needed or not plan.safe:
        first = (needed or plan.initial or ("",))[0]
        there = checkpoint.graph.tensors.get(alignment.mismatched.get(first, ""))
        alone = len(set(map(parent, needed))) == 1
        told = f"the file does not set {first}" if there is None else _other_shape(model, first, there, alone=alone)
        raise PlanError(f"{model.arch} did not write {checkpoint.path.name}: {told}")
    return plan


def _renamed_inside(alignment: Alignment, plan: Plan) -> Scope | None:
    """A module that the file calls otherwise. A prefix around the whole is none: wrappers and trainers put theirs there."""
    targets = [unwrap(step.target)[0] for step in plan.steps]
    for scope in alignment.scopes:
        if scope.source and scope.target and not all(is_under(name, scope.target) for name in targets):
            return scope
    return None


def _other_shape(model: Model, name: str, there: TensorSpec, *, alone: bool) -> str:
    """What to do where the file has a tensor in another shape; ``alone``: it is the only layer of the model that has one."""
    here = model.graph.tensors[name].shape
    told = f"{name} has the shape {there.shape} in the file and {here} in this model"
    if model.source == "object":
        return f"{told}: build it with the arguments that the file's model had"
    # One layer with other outputs is the head, and rows of torch are outputs.
    head = alone and model.graph.framework == "torch" and there.shape[1:] == here[1:] and len(there.shape) > 1
    example = f"num_classes={there.shape[0]}" if head else "KEY=VALUE"
    return f'{told}: name its arguments behind it, such as --source-arch "{model.arch}{"&" if "?" in model.arch else "?"}{example}"'


def random_inputs(module: torch.nn.Module, input_size: Sequence[int] | None = None) -> Iterator[tuple[Any, ...]]:
    """Inputs to try, the same ones at every call: of the given size without the batch, or of sizes that are usual for the first layer."""
    import torch

    generator = torch.Generator().manual_seed(0)
    limit = next((child.num_embeddings for child in module.modules() if isinstance(child, torch.nn.Embedding)), 100)
    tried = [(torch.empty(2, *input_size, device="meta"),)] if input_size is not None else usual_inputs(module)
    for inputs in tried:
        yield tuple(
            torch.randn(value.shape, generator=generator)
            if value.is_floating_point()
            else torch.randint(0, limit, value.shape, generator=generator)
            for value in inputs
        )


def common_inputs(
    source: torch.nn.Module, target: torch.nn.Module, input_size: Sequence[int] | None = None
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Inputs to try on two modules, each with the name of its dtype, to which both are converted: double precision before single."""
    import torch

    for dtype in ("float64", "float32"):
        kind = getattr(torch, dtype)
        for module in (source, target):
            module.to(kind)
        for given in random_inputs(target, input_size):
            yield dtype, tuple(value.to(kind) if value.is_floating_point() else value for value in given)


def uncompiled() -> AbstractContextManager[Any]:
    """A block in which ``torch.compile`` compiles nothing: a model is run once or twice, and its layers are watched."""
    import torch

    stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    return stance("force_eager") if stance is not None else nullcontext()


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Every tensor of a model's output, whatever holds it."""
    import torch

    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in tensors_of(value)]
    if isinstance(output, list | tuple):
        return [tensor for value in output for tensor in tensors_of(value)]
    if hasattr(output, "__dict__"):
        return [tensor for value in vars(output).values() for tensor in tensors_of(value)]
    return []
