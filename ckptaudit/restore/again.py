"""Audit a restored model by itself: what the checkpoint's audit could not see shows now, such as values that were not sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckptaudit.arch.live import model_of_object
from ckptaudit.pipeline import Audit, compare
from ckptaudit.restore.demand import Demand, refusal
from ckptaudit.restore.held import checkpoint_of_state


def audit_again(model: Any, state: Mapping[str, Any], audit: Audit, demand: Demand) -> None:
    """Raise IncompatibleCheckpoint for an error that the first audit did not know of, tensors that were not set left out.

    Parameters
    ----------
    state:
        What the model holds now, by the names of its graph.
    audit:
        What was found before it was restored.
    """
    live = model_of_object(model, {})
    held = checkpoint_of_state(state, "the restored model", live.graph.framework)
    again = compare(held, live, intent="eval", allow_missing=demand.allow_missing)
    known, unset = {finding.rule for finding in audit.findings}, set(audit.plan.initial)
    if any(f.severity == "error" and f.rule not in known and not unset.issuperset(f.model or f.checkpoint) for f in again.findings):
        raise refusal(again, "The restored model fails its own audit, and is no longer as it was.")
