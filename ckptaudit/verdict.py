"""Coverage, verdict and the one-sentence diagnosis."""

from __future__ import annotations

from typing import Any, Literal

from ckptaudit.align import Pair
from ckptaudit.align.lost_parts import loses_part
from ckptaudit.graph import TensorSpec
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import first_segment, is_under, leaf
from ckptaudit.plan import Plan
from ckptaudit.plan.plan import is_complete, keeps_rows
from ckptaudit.records import dataclass
from ckptaudit.rules import Status
from ckptaudit.rules.comparison import Comparison, Intent
from ckptaudit.rules.finding import SEVERITIES, STATUSES

#: Modules shown in the coverage table; a model with more top-level modules is shown by its largest.
_MAX_PHRASES = 4
#: Share of the parameters outside the heads that must be set before anything is worth fine-tuning: with less, most of what would be
#: trained starts at random and the file is no starting point.
_MIN_TO_FINETUNE = 0.5
#: Rules that declare that fine-tuning makes good for what they say is unset.
_MADE_GOOD = frozenset({"backbone-only", "bn-absent", "num-classes", "stem-channels"})


#: ``--fail-on``: the verdict from which on an audit fails; without it, whatever does not serve the intent.
Bar = Literal["remappable", "partial", "incompatible", "never"]


@dataclass(frozen=True, slots=True)
class ModuleCoverage:
    """How many of a top-level module's parameters the file would set."""

    module: str
    matched: int
    total: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which share of the model the file would really set.

    ``tensors`` and ``parameters`` are (set, all); parameters are values that training changes, without buffers.
    ``modules`` are the model's top-level modules, in its order.
    """

    tensors: tuple[int, int]
    parameters: tuple[int, int]
    modules: tuple[ModuleCoverage, ...]

    def to_json(self) -> dict[str, Any]:
        """The coverage as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
        return {
            "tensors": list(self.tensors),
            "parameters": list(self.parameters),
            "modules": [{"module": m.module, "parameters": [m.matched, m.total]} for m in self.modules],
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Attributes
    ----------
    status:
        ``compatible``, ``remappable``, ``partial`` or ``incompatible``.
    intent:
        What the checkpoint is wanted for.
    fit:
        Whether it serves that intent.
    summary:
        The diagnosis in one sentence.
    """

    status: Status
    intent: Intent
    fit: bool
    summary: str

    def passes(self, bar: Bar | None = None) -> bool:
        """Whether it is better than ``bar``; without one, whether it serves the intent."""
        if bar is None:
            return self.fit
        return bar == "never" or STATUSES.index(self.status) < STATUSES.index(bar)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
        return {"status": self.status, "intent": self.intent, "summary": self.summary}


def measure_coverage(comparison: Comparison) -> Coverage:
    """Count what the alignment has a sure counterpart for; derived buffers count nowhere."""
    pairs = comparison.alignment.pairs
    repeated = {name for group in comparison.model.graph.tied for name in group[1:]}
    counted = [spec for spec in comparison.model.graph if leaf(spec.name) not in DERIVED_BUFFERS]
    modules: dict[str, list[TensorSpec]] = {}
    for spec in counted:
        if not spec.buffer and spec.name not in repeated:
            modules.setdefault(first_segment(spec.name), []).append(spec)

    def is_set(spec: TensorSpec) -> bool:
        return _has_counterpart(pairs.get(spec.name))

    rows = tuple(
        ModuleCoverage(top, sum(s.numel for s in specs if is_set(s)), sum(s.numel for s in specs)) for top, specs in modules.items()
    )
    return Coverage(
        (sum(map(is_set, counted)), len(counted)),
        (sum(row.matched for row in rows), sum(row.total for row in rows)),
        rows,
    )


def judge(comparison: Comparison, plan: Plan, coverage: Coverage) -> Verdict:
    """Reach the verdict: no better than the worst finding allows, and never better than what would really be set."""
    status = _status(comparison, plan, coverage)
    # What nobody can say for sure is not fit for anything until somebody has chosen.
    start = _starting_point(comparison)
    to_finetune = plan.safe and status != "incompatible" and start is None
    fit = to_finetune if comparison.intent == "finetune" else plan.safe and status in ("compatible", "remappable")
    return Verdict(status, comparison.intent, fit, _summary(comparison, status, fit, to_finetune, start))


def _starting_point(comparison: Comparison) -> str | None:
    """Why training could not start from the file: a few words, or None when it could.

    Whatever is unset must be a head, or be declared by a rule to be made good by training; and most of what is not a head must be set.
    """
    if comparison.alignment.as_it_is:
        return None
    graph, pairs, scope = comparison.model.graph, comparison.alignment.pairs, comparison.head_scope

    def in_head(name: str) -> bool:
        return comparison.in_model_head(name) or (bool(scope) and is_under(name, scope))

    declared = comparison.excused | {
        name for finding in comparison.findings if finding.rule in _MADE_GOOD and finding.status != "incompatible" for name in finding.model
    }
    unset = [name for name in (*comparison.missing, *comparison.mismatched) if name not in declared and not in_head(name)]
    if unset:
        return f"`{unset[0]}`{f' and {len(unset) - 1} more' if len(unset) > 1 else ''} outside the head not set"
    repeated = {name for group in graph.tied for name in group[1:]}
    body = [spec for spec in graph if not spec.buffer and spec.name not in repeated and not in_head(spec.name)]
    total = sum(spec.numel for spec in body)
    held = sum(spec.numel for spec in body if _has_counterpart(pairs.get(spec.name)))
    return f"only {held / total:.1%} of the parameters outside the head set" if held < _MIN_TO_FINETUNE * total else None


def _has_counterpart(pair: Pair | None) -> bool:
    """Whether it is sure which tensor of the file is meant, whatever else its layer may lack."""
    return pair is not None and (pair.sure or loses_part(pair))


def _status(comparison: Comparison, plan: Plan, coverage: Coverage) -> Status:
    status: Status = max((finding.status for finding in comparison.findings), key=STATUSES.index, default="compatible")
    changed = comparison.keras_load is not None or any(step.sources != (step.target,) or step.ops for step in plan.steps)
    renamed = changed and not comparison.restored_by_position
    unused = any(not comparison.checkpoint.graph.tensors[name].buffer for name in plan.dropped)
    if renamed or unused:
        status = _worse(status, "remappable")
    unset = [name for name in plan.initial if name not in comparison.excused]
    if not is_complete(unset) or not plan.safe or any(map(keeps_rows, plan.steps)):
        status = _worse(status, "partial")
    if coverage.tensors[0] == 0 or coverage.parameters[0] == 0 < coverage.parameters[1]:
        status = "incompatible"
    return status


def _worse(a: Status, b: Status) -> Status:
    return a if STATUSES.index(a) >= STATUSES.index(b) else b


def _summary(comparison: Comparison, status: Status, fit: bool, to_finetune: bool, start: str | None) -> str:
    weights = sorted(comparison.findings, key=lambda f: (-STATUSES.index(f.status), -SEVERITIES.index(f.severity)))
    phrases = list(dict.fromkeys(f.phrase for f in weights if f.phrase))
    if start is not None and comparison.intent == "finetune" and status != "incompatible":
        phrases.insert(0, start)
    if phrases and (backbone := comparison.common_backbone) is not None:
        phrases.insert(0, f"the same backbone ({backbone})")
    if len(phrases) > _MAX_PHRASES:
        phrases = [*phrases[:_MAX_PHRASES], f"{len(phrases) - _MAX_PHRASES} more"]
    conclusion = {
        ("eval", True): "fit to evaluate",
        ("eval", False): "fit to fine-tune, not to evaluate" if to_finetune else "not fit to evaluate",
        ("finetune", True): "fit to fine-tune",
        ("finetune", False): "not fit to fine-tune",
        ("resume", True): "fit to resume",
        ("resume", False): "not fit to resume",
    }[comparison.intent, fit]
    if not phrases:
        phrases = [
            "every tensor fits as it is"
            if status == "compatible"
            else "every tensor of the model is in the file"
            if fit
            else "the file does not fit"
        ]
    sentence = f"{'; '.join(phrases)}: {conclusion}"
    return sentence[0].upper() + sentence[1:] + "."
