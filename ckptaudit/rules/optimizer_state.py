"""To resume training, the optimizer's state must be there and belong to these parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("optimizer-state", "The optimizer's state does not fit", "error", "file")

_MOMENT = re.compile(r"(?:^|\.)state\.(\d+)\.\w+$")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding, for the intent ``resume`` only, when the state is absent or its moments have other shapes."""
    if comparison.intent != "resume":
        return
    optimizers = [branch for branch in comparison.checkpoint.branches if branch.role == "optimizer"]
    if not optimizers:
        yield RULE.finding(
            "The file holds no optimizer state: training would restart with cold moments.",
            fix="take a checkpoint that was saved for resuming",
            status="partial",
            phrase="no optimizer state",
        )
        return
    # The optimizer counts trained parameters in their order of definition; parameters without a gradient yet have no state.
    parameters = [spec.shape for spec in comparison.model.graph if not spec.buffer]
    for branch in optimizers:
        wrong = [
            name
            for name, tensor in branch.tensors.items()
            if (match := _MOMENT.search(name))
            and tensor.shape
            and (int(match[1]) >= len(parameters) or tensor.shape != parameters[int(match[1])])
        ]
        if wrong:
            yield RULE.finding(
                f"{len(wrong)} of {len(branch.tensors)} tensors of the optimizer (branch `{branch.name}`) do not have the shape "
                f"of the model's parameters, first `{wrong[0]}`: it was made for other parameters, or for groups in another order.",
                confidence=0.8 if len(optimizers) == 1 else 0.5,
                fix="build the parameter groups as in training, or start the optimizer anew",
                status="partial",
                phrase="optimizer state of other parameters",
            )
