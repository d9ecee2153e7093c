"""To resume training, the optimizer's state must be there and belong to these parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ckptaudit.lazily import compiled_when_used
from ckptaudit.read import Branch
from ckptaudit.records import dataclass
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("optimizer-state", "The optimizer's state does not fit", "error", "file")

#: Moments that have the shape of their parameter; others (factored, per row) say nothing about it.
_MOMENT = compiled_when_used(
    r"(?:^|\.)state\.\w+\.(exp_avg|exp_avg_sq|max_exp_avg_sq|exp_inf|momentum_buffer|square_avg|grad_avg|sum|acc_delta|mu|nu)$"
)


#: The last entry of a list that the metadata cut short.
_MORE = compiled_when_used(r"… ([\d,]+) more")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding, for the intent ``resume`` only, when the state is absent, counts other parameters or has other shapes.

    Optimizers count parameters in the order of their groups, which a file does not tell, and keep no moments for frozen ones. So
    shapes are compared as a whole, not one by one: what is left over belongs to other parameters.
    """
    if comparison.intent != "resume" or comparison.checkpoint.branch.role == "optimizer":
        return
    counts = dict(_counts(comparison.checkpoint.metadata, ""))
    branches = {branch.name: branch for branch in comparison.checkpoint.branches if branch.role == "optimizer"}
    if not branches and not counts:
        yield RULE.finding(
            "The file holds no optimizer state: training would restart with cold moments.",
            fix="take a checkpoint that was saved for resuming",
            status="partial",
            phrase="no optimizer state",
        )
        return
    repeated = {name for group in comparison.model.graph.tied for name in group[1:]}
    wanted = sum(not spec.buffer and spec.name not in repeated for spec in comparison.model.graph)
    judged = [
        _Judged(name, counts.get(name), *(_left_over(branches[name], comparison) if name in branches else ([], 0)))
        for name in dict.fromkeys((*branches, *counts))  # SGD without momentum keeps groups and no state
    ]
    # Several optimizers (generator, discriminator) belong to several models: one that fits is enough. Or they share one model.
    share = sum(one.parameters or 0 for one in judged) == wanted and not any(one.wrong for one in judged)
    nearest = min(judged, key=lambda one: (len(one.wrong), abs((wanted if one.parameters is None else one.parameters) - wanted)))
    held = nearest.parameters
    if nearest.wrong:
        yield RULE.finding(
            f"{len(nearest.wrong)} of the {plural(nearest.moments, 'moment')} of the optimizer (branch `{nearest.name}`) "
            f"{'has' if len(nearest.wrong) == 1 else 'have'} the shape of no parameter of the model, first `{nearest.wrong[0]}`: "
            "the optimizer was made for other parameters.",
            confidence=0.9 if len(judged) == 1 else 0.6,
            fix="build the model as in training, or start the optimizer anew",
            status="partial",
            phrase="optimizer state of other parameters",
        )
    elif held is not None and held != wanted and not share:
        more = held > wanted
        yield RULE.finding(
            f"The groups of the optimizer (`{nearest.name}`) count {plural(held, 'parameter')} and the model has {wanted:,}: "
            + ("it was made for a larger model." if more else f"{wanted - held:,} of them were frozen or left out."),
            severity="error" if more else "warning",
            confidence=0.95 if len(judged) == 1 else 0.6,
            fix="build the model as in training, or start the optimizer anew"
            if more
            else "give the optimizer the same parameters as in training, or start it anew",
            status="partial",
            phrase=f"optimizer state of {plural(held, 'parameter')} for {wanted:,}",
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    """One optimizer: how many parameters its groups count, and which of its moments fit no parameter of the model."""

    name: str
    parameters: int | None
    wrong: list[str]
    moments: int


def _counts(metadata: object, path: str) -> Iterator[tuple[str, int | None]]:
    """Each optimizer among the file's metadata, by its branch, with the number of parameters in its groups."""
    if isinstance(metadata, Mapping):
        groups = metadata.get("param_groups")
        if isinstance(groups, list):
            yield path, _count(groups)
            return
        items: Iterable[tuple[object, object]] = metadata.items()
    elif isinstance(metadata, list):
        items = ((str(i), value) for i, value in enumerate(metadata))
    else:
        return
    for key, value in items:
        yield from _counts(value, f"{path}.{key}" if path else str(key))


def _left_over(branch: Branch, comparison: Comparison) -> tuple[list[str], int]:
    """Moments of a branch that no parameter has the shape of, and how many moments there are.

    Parameters that differ in shape between file and model have findings of their own: the file's shape counts as known.
    """
    repeated = {name for group in comparison.model.graph.tied for name in group[1:]}
    shapes = [spec.shape for spec in comparison.model.graph if not spec.buffer and spec.name not in repeated]
    known = Counter([*shapes, *(comparison.shapes(name)[0] for name in comparison.mismatched)])
    known.update(comparison.checkpoint.graph.tensors[name].shape for name in comparison.unexpected)
    left: dict[str, Counter[tuple[int, ...]]] = {}
    moments = 0
    wrong = []
    for name, tensor in branch.tensors.items():
        if (match := _MOMENT.search(name)) is None:
            continue
        moments += 1
        kind = left.setdefault(match[1], known.copy())
        kind[tensor.shape] -= 1
        if kind[tensor.shape] < 0:
            wrong.append(name)
    return wrong, moments


def _count(groups: list[object]) -> int | None:
    """Number of parameters in an optimizer's groups; None where the metadata cuts them short or spells them otherwise."""
    total = 0
    for group in groups:
        held = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(held, list):
            return None
        if held and isinstance(held[-1], str) and (cut := _MORE.fullmatch(held[-1])):
            total += len(held) - 1 + int(cut[1].replace(",", ""))
        else:
            total += len(held)
    return total
