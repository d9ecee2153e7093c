"""To resume training, the optimizer's state must be there and belong to these parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ckptaudit.read import Branch
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("optimizer-state", "The optimizer's state does not fit", "error", "file")

#: Moments that have the shape of their parameter; others (factored, per row) say nothing about it.
_MOMENT = re.compile(
    r"(?:^|\.)state\.\w+\.(exp_avg|exp_avg_sq|max_exp_avg_sq|exp_inf|momentum_buffer|square_avg|grad_avg|sum|acc_delta|mu|nu)$"
)


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding, for the intent ``resume`` only, when the state is absent or its moments have other shapes.

    Optimizers count parameters in the order of their groups, which a file does not tell, and skip frozen ones. So shapes are
    compared as a whole, not one by one: what is left over belongs to other parameters.
    """
    if comparison.intent != "resume" or comparison.checkpoint.branch.role == "optimizer":
        return
    optimizers = [branch for branch in comparison.checkpoint.branches if branch.role == "optimizer"]
    if not optimizers:
        if not _has_groups(comparison.checkpoint.metadata):  # SGD without momentum keeps groups and no state
            yield RULE.finding(
                "The file holds no optimizer state: training would restart with cold moments.",
                fix="take a checkpoint that was saved for resuming",
                status="partial",
                phrase="no optimizer state",
            )
        return
    # Several optimizers (generator, discriminator) belong to several models: one that fits is enough.
    wrong, moments, branch = min((_left_over(branch, comparison) for branch in optimizers), key=lambda row: len(row[0]))
    if wrong:
        yield RULE.finding(
            f"{len(wrong)} of the {plural(moments, 'moment')} of the optimizer (branch `{branch}`) "
            f"{'has' if len(wrong) == 1 else 'have'} the shape of no parameter of the model, first `{wrong[0]}`: "
            "the optimizer was made for other parameters.",
            confidence=0.9 if len(optimizers) == 1 else 0.6,
            fix="build the model as in training, or start the optimizer anew",
            status="partial",
            phrase="optimizer state of other parameters",
        )


def _left_over(branch: Branch, comparison: Comparison) -> tuple[list[str], int, str]:
    """Moments of a branch that no parameter has the shape of, how many moments there are, and the branch's name.

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
    return wrong, moments, branch.name


def _has_groups(metadata: object) -> bool:
    """Whether ``param_groups`` of an optimizer are anywhere among the file's metadata."""
    if isinstance(metadata, Mapping):
        return "param_groups" in metadata or any(map(_has_groups, metadata.values()))
    return isinstance(metadata, list) and any(map(_has_groups, metadata))
