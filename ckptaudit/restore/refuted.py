"""Refuse what running the model that wrote the file refutes."""

from __future__ import annotations

from typing import Any

from ckptaudit.arch import build_model
from ckptaudit.arch.model import SELF
from ckptaudit.pipeline import Audit, model_of_own_config
from ckptaudit.prove import prove_plan
from ckptaudit.records import replace
from ckptaudit.report._proof import proof_lines
from ckptaudit.restore.demand import refusal


def refuse_refuted(audit: Audit, source_arch: Any) -> None:
    """Raise IncompatibleCheckpoint where running the model that wrote the file beside a copy of the model refutes the plan.

    Where they cannot be run, nothing is said.
    """
    own = isinstance(source_arch, str) and source_arch == SELF
    wrote = model_of_own_config(audit.checkpoint, real=True) if own else build_model(source_arch)
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=wrote)
    if proof.status != "refuted":
        return
    answer, *details = (line.strip("✗ ") for line in proof_lines(proof))
    told = "; ".join(details[1:] if proof.by == "outputs" else details)  # the arithmetic holds where outputs are told of
    verdict = replace(audit.verdict, status="incompatible", fit=False, summary="Nothing is restored.")
    raise refusal(replace(audit, verdict=verdict), f"The plan is {answer}: {told}.")
