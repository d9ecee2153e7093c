"""Look, after whatever restored a model, whether it holds what the checkpoint holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.live import is_keras_model, model_of_object
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.pipeline import Audit, audit
from ckptaudit.restore.demand import Demand, beyond_dtype, few_names, refusal
from ckptaudit.rules.comparison import Intent

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

#: A model computes these from its configuration, whoever restores it; counters of batches it does not.
_COMPUTED = DERIVED_BUFFERS - {"num_batches_tracked"}


def verify(
    model: Any,
    checkpoint: str | os.PathLike[str] | Checkpoint,
    *,
    intent: Intent = "eval",
    allow_missing: Sequence[str] = (),
    min_coverage: float | None = None,
    branch: str | None = None,
) -> Audit:
    """Compare every value of a restored model with the checkpoint that it was restored from.

    For loaders that build the model themselves or write to it past ``load_state_dict``, such as ``from_pretrained`` of transformers.
    Values of another dtype are compared after conversion to the model's. Buffers that a model computes from its configuration
    (``position_ids``, ``relative_position_index``, ``inv_freq`` …) are left out: loaders rightly leave them as they are.

    Parameters
    ----------
    model, checkpoint, intent, allow_missing, min_coverage, branch:
        As of :func:`ckptaudit.load`; the model is only looked at.

    Raises
    ------
    IncompatibleCheckpoint
        The checkpoint does not meet the demand, or the model holds other values than it, or holds them in a dtype that is too small.
    UsageError
        The model is on the meta device, or ``allow_missing`` names what it does not have.
    CkptAuditError
        The file cannot be read.
    """
    demand = Demand.of(intent, allow_missing, min_coverage)
    found = audit(checkpoint, model_of_object(model, {}), intent=intent, branch=branch, allow_missing=demand.allow_missing)
    demand.check(found)
    check_values(model, found)
    return found


def check_values(model: Any, found: Audit) -> None:
    """Raise IncompatibleCheckpoint unless every tensor that the plan sets holds what the plan gives, and can hold it."""
    if is_keras_model(model):
        from ckptaudit.restore.keras_writing import outcomes
    else:
        from ckptaudit.restore.torch_steps import outcomes
    bad = [each for each in outcomes(model, found) if (each.lost or not each.same) and leaf(each.name) not in _COMPUTED]
    if other := [each.name for each in bad if not each.same]:
        names = found.model.graph.tensors
        raise refusal(
            found,
            f"{len(other):,} of the model's {len(names):,} tensors do not hold the file's values: they were not restored "
            f"({few_names(other, names)}).",
        )
    if bad:
        raise beyond_dtype(found, bad[0].name, bad[0].lost, bad[0].dtype)
