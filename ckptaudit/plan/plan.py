"""The plan: which tensor of the file goes where, what is dropped, and what keeps its initial value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptaudit.align import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.plan.rename_rules import RenameRule, rename_rules

#: A step is the pair that it carries out.
Step = Pair


@dataclass(frozen=True, slots=True)
class Plan:
    """How to restore a checkpoint into a model.

    Attributes
    ----------
    steps:
        One per tensor of the model that is set, in the model's order.
    dropped:
        Tensors of the file that are not used.
    initial:
        Tensors of the model that keep their initial value.
    complete:
        Nothing that the model needs keeps its initial value; buffers that it derives itself are not needed.
    rules:
        The renames, as few regular expressions as say exactly the same.
    """

    steps: tuple[Step, ...]
    dropped: tuple[str, ...]
    initial: tuple[str, ...]
    complete: bool
    rules: tuple[RenameRule, ...]

    @property
    def safe(self) -> bool:
        """Whether every step may be applied without asking."""
        return all(step.sure for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
        return {
            "complete": self.complete,
            "safe": self.safe,
            "steps": [
                {
                    "to": step.target,
                    "from": list(step.sources),
                    "ops": [{"op": op.name, **op.params} for op in step.ops],
                    "grade": step.grade,
                    "confidence": step.confidence,
                    "evidence": list(step.evidence),
                    "runner_up": list(step.runner_up) if step.runner_up else None,
                }
                for step in self.steps
            ],
            "dropped": list(self.dropped),
            "initial": list(self.initial),
            "rules": [{"pattern": rule.pattern, "replacement": rule.replacement} for rule in self.rules],
        }


def make_plan(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Plan:
    """Turn an alignment into a plan. Tensors of other shapes are neither used nor set."""
    used = {name for pair in alignment.pairs.values() for name in pair.sources}
    initial = tuple(name for name in target.tensors if name not in alignment.pairs)
    renames = {pair.sources[0]: pair.target for pair in reversed(list(alignment.pairs.values())) if len(pair.sources) == 1}
    return Plan(
        steps=tuple(alignment.pairs.values()),
        dropped=tuple(name for name in source.tensors if name not in used),
        initial=initial,
        complete=all(leaf(name) in DERIVED_BUFFERS for name in initial),
        rules=rename_rules(renames),
    )
