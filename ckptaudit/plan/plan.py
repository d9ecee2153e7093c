"""The plan: which tensor of the file goes where, what is dropped, and what keeps its initial value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.align import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.plan.fingerprint import Side, digest, fingerprint, layout
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    import os

    from ckptaudit.plan.rename_rules import RenameRule
    from ckptaudit.read import Checkpoint

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
        The renames, as few regular expressions as say exactly the same. The first that matches a name counts; names of the file
        that are no plain rename are left alone by all of them.
    source, target:
        The two sides that it was made for; None where that is not known.
    """

    steps: tuple[Step, ...]
    dropped: tuple[str, ...]
    initial: tuple[str, ...]
    complete: bool
    rules: tuple[RenameRule, ...]
    source: Side | None = None
    target: Side | None = None

    @property
    def safe(self) -> bool:
        """Whether every step may be applied without asking."""
        return all(step.sure for step in self.steps)

    @property
    def renames(self) -> Mapping[str, str]:
        """Old name to new one where the tensor itself stays as it is; of several new names of one tensor the first."""
        found: dict[str, str] = {}
        for step in self.steps:
            if not step.ops and len(step.sources) == 1:
                found.setdefault(step.sources[0], step.target)
        return found

    @property
    def ruled(self) -> tuple[Step, ...]:
        """Steps that the rules carry out, names that stay among them."""
        from ckptaudit.plan.rename_rules import Renaming

        renaming, renames = Renaming(self.rules), self.renames
        return tuple(
            step
            for step in self.steps
            if not step.ops
            and len(step.sources) == 1
            and renames[step.sources[0]] == step.target
            and renaming(step.sources[0]) == step.target
        )

    @property
    def special(self) -> tuple[Step, ...]:
        """Steps that no rule expresses: those that change the tensor, or use it once more."""
        ruled = {step.target for step in self.ruled}
        return tuple(step for step in self.steps if step.target not in ruled)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and the hash of what the plan does, by which an output names the plan that made it."""
        steps = [[step.target, list(step.sources), [{"op": op.name, **op.params} for op in step.ops]] for step in self.steps]
        return digest(sorted(steps, key=lambda step: str(step[0])))

    def named(self, source: str, target: str, branch: str = "") -> Plan:
        """The same plan with its sides named, for people who read it and for files with several branches."""
        return replace(
            self,
            source=self.source and replace(self.source, name=source, branch=branch),
            target=self.target and replace(self.target, name=target),
        )

    def apply(
        self,
        source: str | os.PathLike[str] | Checkpoint | Mapping[str, Any],
        *,
        as_torch: bool = False,
        allow_ambiguous: bool = False,
        initial: Mapping[str, Any] | None = None,
        check: bool = True,
    ) -> dict[str, Any]:
        """Carry out the plan in memory, reading one tensor at a time.

        Parameters
        ----------
        source:
            A file, an open checkpoint, or a mapping of names to arrays or tensors. It is not changed; where a tensor of a mapping
            only gets another name, the result holds that very tensor.
        as_torch:
            Give torch tensors; a mapping that holds torch tensors gives them anyway.
        allow_ambiguous:
            Carry out steps that are not sure, too.
        initial:
            The model's own tensors, for steps that keep rows of them.
        check:
            Refuse a source other than the one that the plan was made for.

        Returns
        -------
        dict
            The model's name of every tensor that is set, with its value.

        Raises
        ------
        PlanError
            The plan has ambiguous steps, does not belong to this source, or a step does not fit its tensors.
        CheckpointError
            The file cannot be read.
        """
        from ckptaudit.plan.applying import apply_plan

        return apply_plan(self, source, as_torch=as_torch, allow_ambiguous=allow_ambiguous, initial=initial, check=check)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the plan as YAML that people can read and edit (``docs/plan.md``).

        Raises
        ------
        OutputError
            The file exists and ``force`` is not given, or it cannot be written.
        """
        from ckptaudit.files import write_file
        from ckptaudit.plan.document import plan_to_text

        write_file(path, plan_to_text(self), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan that was saved, and perhaps edited; ``Plan.load`` of what ``save`` wrote equals the plan.

        Raises
        ------
        PlanError
            It is no plan, or says something that no plan may say; one line tells what and where.
        """
        from ckptaudit.plan.document import load_plan

        return load_plan(path)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
        return {
            "complete": self.complete,
            "safe": self.safe,
            "steps": [step_to_json(step) for step in self.steps],
            "dropped": list(self.dropped),
            "initial": list(self.initial),
            "rules": [{"pattern": rule.pattern, "replacement": rule.replacement} for rule in self.rules],
        }


def step_to_json(step: Step) -> dict[str, Any]:
    """A step as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
    return {
        "to": step.target,
        "from": list(step.sources),
        "ops": [{"op": op.name, **op.params} for op in step.ops],
        "grade": step.grade,
        "confidence": step.confidence,
        "evidence": list(step.evidence),
        "runner_up": list(step.runner_up) if step.runner_up else None,
    }


def make_plan(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Plan:
    """Turn an alignment into a plan. Tensors of other shapes are neither used nor set."""
    used = {name for pair in alignment.pairs.values() for name in pair.sources}
    initial = tuple(name for name in target.tensors if name not in alignment.pairs)
    plan = Plan(
        steps=tuple(alignment.pairs.values()),
        dropped=tuple(name for name in source.tensors if name not in used),
        initial=initial,
        complete=is_complete(initial) and not any(map(keeps_rows, alignment.pairs.values())),
        rules=(),
        source=Side(fingerprint(source)),
        target=Side(
            fingerprint(target), sets=layout((name, target.tensors[name].shape) for name in alignment.pairs if name in target.tensors)
        ),
    )
    renames = plan.renames
    if all(old == new for old, new in renames.items()):
        return plan
    from ckptaudit.plan.rename_rules import rename_rules  # of use only where names change

    return replace(plan, rules=rename_rules(renames, source.tensors))


def is_complete(initial: Iterable[str]) -> bool:
    """Whether a model lacks nothing when these tensors keep their initial values."""
    return all(leaf(name) in DERIVED_BUFFERS for name in initial)


def keeps_rows(step: Step) -> bool:
    """Whether the step leaves rows of the model's tensor at their initial values, as a class map does for classes that the file lacks."""
    return any(getattr(op, "needs_initial", False) for op in step.ops)


def changed_steps(plan: Plan) -> Iterator[Step]:
    """Steps that do more than rename."""
    return (step for step in plan.steps if step.ops)
