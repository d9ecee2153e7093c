"""Restore a checkpoint into a live model, or raise and leave the model as it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.live import is_keras_model, model_of_object
from ckptaudit.errors import UsageError
from ckptaudit.garbage import collector_paused
from ckptaudit.pipeline import Audit, audit
from ckptaudit.restore.demand import Demand
from ckptaudit.rules.comparison import Intent

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint


def load(
    model: Any,
    checkpoint: str | os.PathLike[str] | Checkpoint,
    *,
    intent: Intent = "eval",
    allow_missing: Sequence[str] = (),
    min_coverage: float | None = None,
    device: Any = None,
    branch: str | None = None,
    source_arch: Any = None,
    settle: bool = False,
) -> Audit:
    """Audit a checkpoint, restore it in place by its plan, and look whether that worked.

    Values are read from the file straight into the model's own tensors; where they have to be computed, one by one: beside the model
    there is never more than one tensor in memory. Tensors keep their identity, dtype, device and ``requires_grad``; optimizers that
    hold them stay valid. The model's ``load_state_dict`` and its hooks are not called.

    Parameters
    ----------
    model:
        A live ``torch.nn.Module``, also one in a wrapper (DataParallel, ``torch.compile``), or a ``keras.Model``.
    checkpoint:
        Path of a file, of a shard index or of a folder that holds one; or a checkpoint that was opened already.
    intent:
        ``eval``, ``finetune`` or ``resume``. Of the optimizer's state, only whether it fits is looked at.
    allow_missing:
        What of the model may keep its values: names of modules or tensors, or shell patterns (``"head"``, ``"*.relative_*"``).
    min_coverage:
        Share of the model's parameters, from 0 to 1, that must be set at least.
    device:
        Where the model is to be afterwards; by default it stays where it is. A model on the meta device needs it.
    branch:
        Which part of the file to restore; by default the one that fits best.
    source_arch, settle:
        The model that wrote the file, and whether to run both: as of :func:`ckptaudit.audit`. Between Keras and torch it decides by its
        dataflow alone which of equal layers is which. With ``settle``, a plan that sets the whole model is put to the proof, too: see
        :func:`ckptaudit.prove.prove_plan`.

    Returns
    -------
    Audit
        What was found before anything was written.

    Raises
    ------
    IncompatibleCheckpoint
        The checkpoint does not meet the demand, not every step of the plan is sure, or running both models refutes it; the model is as
        it was.
    UsageError
        ``allow_missing`` names what the model does not have.
    CkptAuditError
        The file cannot be read, or the model cannot be written to; the model is as it was, unless the file was changed, or could no
        longer be read, while values were written: then the text says that it is not.
    """
    demand = Demand.of(intent, allow_missing, min_coverage)
    with collector_paused():
        found = audit(
            checkpoint,
            model_of_object(model, {}),
            intent=intent,
            branch=branch,
            allow_missing=demand.allow_missing,
            source_arch=source_arch,
            settle=settle,
        )
        demand.check(found)
        if settle and source_arch is not None and found.plan.complete:
            from ckptaudit.restore.refuted import refuse_refuted  # only who asks for it pays for running models

            refuse_refuted(found, source_arch)
        if is_keras_model(model):
            from ckptaudit.restore.keras_writing import restore as restore_keras

            if device is not None:
                raise UsageError("a Keras model is where its backend puts it: load() takes no device for it")
            restore_keras(model, found, demand)
            return found
        from ckptaudit.restore.torch_writing import restore

        restore(model, found, demand, device)
        return found
