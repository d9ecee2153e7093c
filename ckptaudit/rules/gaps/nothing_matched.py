"""No tensor, or next to none, would be set: mostly ``strict=False`` would have said nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural, quoted

RULE = Rule("nothing-matched", "Nothing would be restored", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when (nearly) no name of the file is one of the model's."""
    if not comparison.unrelated or comparison.explained:
        return
    if not comparison.model.graph:
        return
    checkpoint = comparison.checkpoint
    deeper = [branch.name for branch in checkpoint.branches if branch.role in ("model", "ema") and branch.name]
    if checkpoint.format == "state-dict" and deeper:
        yield RULE.finding(
            f"This is a whole checkpoint, and no state dict of a model: the weights lie deeper in it, under {quoted(deeper)}. "
            "load_state_dict(strict=False) would leave the model untrained in silence.",
            checkpoint=(*comparison.unexpected, *comparison.mismatched.values()),
            model=(*comparison.missing, *comparison.mismatched),
            fix=f"give load_state_dict what lies under `{deeper[0]}`",
            status="incompatible",
            phrase=f"the weights lie deeper, under {quoted(deeper)}",
        )
        return
    if not checkpoint.graph:
        yield RULE.finding(
            "The file holds no tensors." + (f" ({comparison.checkpoint.branch_reason})" if comparison.checkpoint.branch.name else ""),
            model=comparison.missing,
            fix="take the file that was saved from model.state_dict()",
            status="incompatible",
            phrase="the file holds no tensors",
        )
        return
    first_file = next(iter(comparison.checkpoint.graph.tensors))
    first_model = next(iter(comparison.model.graph.tensors))
    held, some = comparison.file_facts.backbone, comparison.corresponding
    other = comparison.identity
    file, model = comparison.checkpoint.graph.tensors, comparison.model.graph.tensors
    refused = [name for name in model if name in file and file[name].shape != model[name].shape]
    yield RULE.finding(
        f"{f'Only {some}' if some else 'None'} of the model's {plural(len(comparison.model.graph), 'tensor')} "
        f"{'is' if some == 1 else 'are'} in the file under any known prefix{', by coincidence' if some else ''}: "
        f"the file's names begin with `{first_file}`, the model's with `{first_model}`. "
        + (
            f"load_state_dict would refuse the shape of {plural(len(refused), 'tensor')} that both have by name, such as `{refused[0]}`."
            if refused
            else "load_state_dict(strict=False) would leave the model untrained in silence."
        )
        + (f" {other.told}." if other else f" By its structure the file's backbone is {held}." if held else ""),
        checkpoint=(*comparison.unexpected, *comparison.mismatched.values()),
        model=(*comparison.missing, *comparison.mismatched),
        fix=f"build {other.arch}"
        if other
        else "check the architecture; if it is the right one, the file was written by a library with other names",
        retry=[("--arch", other.arch)] if other else (),
        status="incompatible",
        phrase="nothing in the file is of this model",
    )
