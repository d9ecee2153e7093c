"""What ``ckptaudit remap`` found, as JSON: schema ``ckptaudit.remap/1``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ckptaudit._version import __version__
from ckptaudit.plan.plan import step_to_json

if TYPE_CHECKING:
    from ckptaudit.plan import Plan, Step
    from ckptaudit.prove import Proof

SCHEMA = "ckptaudit.remap/1"


def remap_json(plan: Plan, offers: Sequence[Step], proof: Proof | None) -> str:
    """The plan as in an audit, its two sides, what else could be asked for, and the proof (null where none was asked for)."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "ckptaudit", "version": __version__},
        "source": asdict(plan.source) if plan.source else None,
        "target": asdict(plan.target) if plan.target else None,
        "plan": plan.to_json(),
        "offers": [step_to_json(step) for step in offers],
        "proof": proof.to_json() if proof is not None else None,
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"
