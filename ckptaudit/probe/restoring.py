"""What of the model the file does not set: it holds its initial values, whatever was restored around it."""

from __future__ import annotations

from collections.abc import Sequence

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import fold_names, leaf
from ckptaudit.pipeline import Audit
from ckptaudit.probe.hypothesis import Hypothesis, judged

_MAX_NAMES = 3


def missing_tensors(audit: Audit) -> list[str]:
    """The model's tensors that keep their initial values, those left out that a model derives from its configuration."""
    return [name for name in audit.plan.initial if leaf(name) not in DERIVED_BUFFERS]


def judge_restoring(audit: Audit, head: str | None) -> Hypothesis:
    """Whether the file sets the model, and all of it, surely.

    Parameters
    ----------
    audit:
        Of the file against the model.
    head:
        Path of the layer that gives the classes: what is missing there alone is its hypothesis.
    """
    missing, total = missing_tensors(audit), len(audit.model.graph.tensors)
    others = [name for name in missing if head is None or not name.startswith(f"{head}.")]
    figures = {"initial": len(missing), "tensors": total, "ambiguous": sum(step.grade == "ambiguous" for step in audit.plan.steps)}
    if others:
        return judged(
            "restoring",
            0.97,
            f"The file leaves {len(missing)} of {total} tensors of the model as they were initialised: {_few(others)}.",
            "`ckptaudit diff` says why; with strict=False nothing would have been said",
            figures,
            others,
        )
    if figures["ambiguous"]:
        unsure = [step.target for step in audit.plan.steps if step.grade == "ambiguous"]
        return judged(
            "restoring",
            0.4,
            f"{len(unsure)} of {total} tensors {'was' if len(unsure) == 1 else 'were'} matched without being sure of it: {_few(unsure)}.",
            "settle the plan: `ckptaudit remap --plan`, and --verify-with these images",
            figures,
            unsure,
        )
    return judged(
        "restoring", 0.02, f"All {total - len(missing)} of {total} tensors that the file should set are set by a sure plan.", "", figures
    )


def _few(names: Sequence[str]) -> str:
    folded = list(fold_names(names))
    return ", ".join(f"`{name}`" for name in folded[:_MAX_NAMES]) + (" …" if len(folded) > _MAX_NAMES else "")
