"""Carry out a plan into a file, some tensors at a time: memory does not grow with the file. One module per format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ckptaudit.align.ops import shape_after
from ckptaudit.errors import OutputError, UsageError
from ckptaudit.plan.applying import open_for, refuse_ambiguous, refuse_other_source
from ckptaudit.plan.fingerprint import layout
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.writing.keras_h5 import write_like
from ckptaudit.plan.writing.safetensors_file import write_safetensors
from ckptaudit.plan.writing.torch_zip import write_torch_zip
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

__all__ = ["SUFFIXES", "Written", "check_suffix", "write_restored"]

#: What an output's name may end in; the first that fits counts.
SUFFIXES = (".safetensors", ".pth", ".pt", ".weights.h5")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: number of tensors and bytes, and what in the plan is no longer as it was when it was made."""

    path: Path
    tensors: int
    nbytes: int
    remarks: tuple[str, ...] = ()


def write_restored(
    plan: Plan,
    source: str | os.PathLike[str] | Checkpoint,
    output: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    force: bool = False,
    allow_ambiguous: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the tensors that the plan gives into a new file; the source is only read.

    Parameters
    ----------
    output:
        A ``.safetensors``, a ``.pth`` or ``.pt`` (a torch file of tensors alone), or a ``.weights.h5`` of Keras 3.
    like:
        For a ``.weights.h5``: such a file of the freshly built model, which says where each variable lies. What the plan does not set
        stays as it is there.
    progress:
        Called with the bytes written so far, and all there will be.

    Raises
    ------
    PlanError
        The plan is ambiguous, does not belong to the source, or a step does not fit its tensors.
    OutputError
        The output exists and ``force`` is not given, or is the source itself.
    UsageError
        Its name has another suffix, or ``like`` is missing or too much.
    """
    suffix = check_suffix(output, like)
    refuse_ambiguous(plan, allow_ambiguous)
    checkpoint = open_for(plan, source)
    refuse_other_source(plan, list(checkpoint.graph), str(checkpoint.path), check=True)
    _refuse_source_as_output(checkpoint, output, like)
    told = progress or (lambda done, total: None)
    if suffix == ".weights.h5":
        nbytes = write_like(plan, checkpoint, output, like or "", force=force, progress=told)
    elif suffix == ".safetensors":
        nbytes = write_safetensors(plan, checkpoint, output, force=force, progress=told)
    else:
        nbytes = write_torch_zip(plan, checkpoint, output, force=force, progress=told)
    return Written(Path(output), len(plan.steps), nbytes, tuple(_signs_of_edits(plan, checkpoint)))


def _signs_of_edits(plan: Plan, checkpoint: Checkpoint) -> Iterator[str]:
    """What contradicts that the plan uses or drops every tensor of the file, and sets what its model has."""
    tensors = checkpoint.branch.tensors
    shapes = ((step.target, shape_after(step.ops, [tensors[name].shape for name in step.sources])) for step in plan.steps)
    if plan.target is not None and plan.target.sets and plan.target.sets != layout(shapes):
        model = plan.target.name or "the model"
        yield f"the plan was edited: what it sets is no longer, name by name and shape by shape, what was to be set of {model}"
    known = {name for step in plan.steps for name in step.sources}.union(plan.dropped)
    lost = [name for name in tensors if name not in known]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield f"the plan was edited: {lost[0]}{more} of the checkpoint {'are' if more else 'is'} neither used nor listed as dropped"


def check_suffix(output: str | os.PathLike[str], like: str | os.PathLike[str] | None = None) -> str:
    """The suffix of an output.

    Raises
    ------
    UsageError
        The name promises a format that is not written, or ``like`` is missing or too much.
    """
    name = os.fspath(output)
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise UsageError(f"{name}: the name of a restored checkpoint ends in one of {', '.join(SUFFIXES)}")
    if (suffix == ".weights.h5") != (like is not None):
        raise UsageError(
            f"{name}: where Keras keeps each variable is told by a file of the fresh model: model.save_weights('fresh.weights.h5'), "
            "then like='fresh.weights.h5' (--like at the prompt)"
            if like is None
            else f"{name}: like (--like at the prompt) goes with a .weights.h5"
        )
    return suffix


def _refuse_source_as_output(checkpoint: Checkpoint, output: str | os.PathLike[str], like: str | os.PathLike[str] | None) -> None:
    read = {checkpoint.path, *(tensor.storage.path for tensor in checkpoint.branch.tensors.values()), *([Path(like)] if like else [])}
    if Path(output).exists() and any(path.exists() and path.samefile(output) for path in read):
        raise OutputError(f"{os.fspath(output)}: is the checkpoint itself, which is never written to")
