"""The model is a part of the file: a whole detector is to be loaded into its backbone."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.gaps.wrapper_prefix import is_trainer_attribute
from ckptaudit.rules.wording import plural

RULE = Rule("whole-into-part", "The model is a part of the file", "warning", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per prefix of the file under which the model lies."""
    for scope in comparison.alignment.scopes:
        if not scope.source or scope.target or is_trainer_attribute(scope.source):
            continue
        beside = tuple(name for name in comparison.unexpected if not is_under(name, scope.source))
        rivals = (
            f" {', '.join(f'`{r}`' for r in scope.rivals)} would fit equally well: which one is meant is undecided." if scope.rivals else ""
        )
        yield RULE.finding(
            f"The model {'could be' if scope.rivals else 'is'} `{scope.source}` of the file ({plural(scope.tensors, 'tensor')} fit); "
            f"the other {plural(len(beside), 'tensor')} of the file {'is' if len(beside) == 1 else 'are'} not of this model.{rivals}"
            if beside
            else f"The file keeps the model under `{scope.source}.` ({plural(scope.tensors, 'tensor')} fit).{rivals}",
            checkpoint=beside,
            severity="error" if scope.rivals else "warning",
            confidence=0.5 if scope.rivals else 0.97,
            fix=("choose one, then " if scope.rivals else "") + f"keep the names below `{scope.source}.` and remove that prefix",
            status="partial" if scope.rivals else "remappable",
            phrase=f"stored under `{scope.source}.`" + "".join(f" or `{rival}.`" for rival in scope.rivals),
        )
