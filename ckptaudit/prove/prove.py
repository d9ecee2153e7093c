"""A plan put to the proof, by every way that is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import ArchitectureError, ImagesError, PlanError
from ckptaudit.graph.settings import computing_modules, settings_differ
from ckptaudit.prove.across_libraries import Running, compare_across
from ckptaudit.prove.arithmetic import check_arithmetic
from ckptaudit.prove.networks import keras_with_values, own_plan, restore, runnable
from ckptaudit.prove.outputs import compare_outputs, counterparts, innermost
from ckptaudit.prove.proof import Outputs, Proof, Setting, Statistics, Status
from ckptaudit.prove.running import TorchNetwork
from ckptaudit.prove.statistics import compare_statistics
from ckptaudit.prove.zeros import with_other_values, zeros_of

if TYPE_CHECKING:
    import torch

    from ckptaudit.arch import Model
    from ckptaudit.plan import Plan
    from ckptaudit.read import Checkpoint

#: Settings that change what a layer computes, by the names that modules of torch give them.
_COMPUTES = frozenset({"eps", "stride", "padding", "dilation", "groups", "padding_mode", "negative_slope", "approximate", "ceil_mode"})
#: Of these, what Keras has, too, with the same values.
_COMPUTES_IN_BOTH = frozenset({"eps", "stride", "dilation"})

#: How many tensors that are zero are named.
_NAMED = 3


def prove_plan(
    plan: Plan,
    checkpoint: Checkpoint,
    model: Model,
    *,
    source: Model | None = None,
    rivals: Sequence[Model] = (),
    images: Path | None = None,
    input_size: Sequence[int] | None = None,
) -> Proof:
    """Put a plan to the proof.

    Parameters
    ----------
    plan, checkpoint, model:
        What was proposed, from what, for what. The checkpoint is only read, a live model is copied.
    source:
        The model that wrote the checkpoint: then both are run on the same random input. An ONNX file needs none, and is run itself.
    rivals:
        Other models with the very tensors of ``source``, where that is what the file was taken for: they are run too, and nothing is proved
        or refuted on which they do not agree.
    images:
        A folder of ordinary images: then what reaches each BatchNorm is compared with what it remembers, where there is no ``source``.
    input_size:
        Sizes of one input without the batch; guessed where it is not given.

    Raises
    ------
    CheckpointError
        Values cannot be read.
    """
    arithmetic = check_arithmetic(plan, checkpoint, model.graph)
    if arithmetic.failed:
        return Proof("refuted", "arithmetic", arithmetic)
    reasons: list[str] = []
    outputs: Outputs | None = None
    statistics: Statistics | None = None
    settings: tuple[Setting, ...] = ()
    export = checkpoint.framework == "onnx" and source is None and images is None
    if source is None and images is None and not export:
        reasons.append("the model that wrote the file is not known (--source-arch), and there are no images (--verify-with)")
    try:
        if export:
            outputs = compare_across(_running_export(checkpoint), _running(model, plan, checkpoint), input_size)
        elif source is not None:
            across = "keras" in (source.graph.framework, model.graph.framework)
            made: Callable[[Model, Plan, Checkpoint], Any] = _running if across else _restored
            own = own_plan(source, checkpoint)
            theirs, ours = made(source, own, checkpoint), made(model, plan, checkpoint)
            pairs = counterparts(plan, own)
            if not across:
                pairs = innermost(pairs, theirs, ours)
            compare: Callable[..., Outputs] = compare_across if across else partial(compare_outputs, plan=plan, layers=pairs)
            settings = _settings(pairs, source, model, _COMPUTES_IN_BOTH if across else _COMPUTES)
            outputs = compare(theirs, ours, input_size=input_size)
            for rival in rivals:
                if compare(made(rival, own_plan(rival, checkpoint), checkpoint), ours, input_size=input_size).equal != outputs.equal:
                    outputs, settings = None, ()
                    reasons.append(
                        f"{source.arch} and {rival.arch} have the same tensors and compute otherwise: tell by --source-arch whose they are"
                    )
                    break
            del theirs, ours  # three models at once would be many
            if outputs is not None and outputs.equal and (zeros := zeros_of(plan, checkpoint)):
                others = with_other_values(checkpoint, zeros)
                if not _equal(compare, made(source, own, others), made(model, plan, others), input_size):
                    outputs, settings = None, ()
                    reasons.append(_silenced(zeros))
        elif images is not None:
            statistics = compare_statistics(_restored(model, plan, checkpoint), images, input_size)
            if statistics is None:
                reasons.append("the model has no running statistics")
    except (ArchitectureError, ImagesError, PlanError) as error:
        outputs = None
        reasons.append(str(error))
    if outputs is not None:
        return Proof("proved" if outputs.equal else "refuted", "outputs", arithmetic, outputs, None, tuple(reasons), settings)
    if statistics is not None and statistics.consistent is not None:
        status: Status = "consistent" if statistics.consistent else "refuted" if statistics.telling else "not proved"
        return Proof(status, "statistics", arithmetic, None, statistics, tuple(reasons), settings)
    return Proof("not proved", "", arithmetic, None, statistics, tuple(reasons), settings)


def _equal(compare: Callable[..., Outputs], theirs: Any, ours: Any, input_size: Sequence[int] | None) -> bool:
    """Whether the outputs are equal; where that cannot be told they are not."""
    try:
        return compare(theirs, ours, input_size=input_size).equal
    except ArchitectureError:
        return False


def _silenced(zeros: Sequence[str]) -> str:
    named = ", ".join(zeros[:_NAMED]) + (f" and {len(zeros) - _NAMED} more" if len(zeros) > _NAMED else "")
    verb = "is" if len(zeros) == 1 else "are"
    return (
        f"the outputs are equal with the file's values, but {named} {verb} zero throughout, and with other values there the outputs "
        "differ: whether what these zeros silence is in its place is not shown"
    )


def _running_export(checkpoint: Checkpoint) -> Running:
    from ckptaudit.prove.onnx_running import OnnxNetwork  # onnxruntime is asked for by exports alone

    return OnnxNetwork(checkpoint, None, 1)


def _running(model: Model, plan: Plan, checkpoint: Checkpoint) -> Running:
    if model.graph.framework != "keras":
        return TorchNetwork(_restored(model, plan, checkpoint))
    from ckptaudit.prove.keras_running import KerasNetwork  # Keras is imported for Keras' models alone

    return KerasNetwork(keras_with_values(model, plan, checkpoint))


def _restored(model: Model, plan: Plan, checkpoint: Checkpoint) -> torch.nn.Module:
    module = runnable(model)
    restore(module, plan, checkpoint)
    return module


def _settings(pairs: Mapping[str, str], source: Model, model: Model, words: frozenset[str]) -> tuple[Setting, ...]:
    """What of ``words`` is set otherwise in corresponding layers, equal differences together."""
    then, now = computing_modules(source.graph), computing_modules(model.graph)
    found: dict[tuple[str, str, str], Setting] = {}
    for path, there in pairs.items():
        if path not in now or there not in then:
            continue
        old = {key: _even(value) for key, value in then[there].attributes.items() if key in words}
        new = {key: _even(value) for key, value in now[path].attributes.items() if key in words}
        for name, (was, is_now) in settings_differ(old, new).items():
            key = (name, repr(was), repr(is_now))
            before = found[key].layers if key in found else ()
            found[key] = Setting(name, was, is_now, (*before, path))
    return tuple(found.values())


def _even(value: object) -> object:
    """``(1, 1)`` as 1: one library writes it so, the other so."""
    return value[0] if isinstance(value, tuple | list) and len(set(map(repr, value))) == 1 else value
