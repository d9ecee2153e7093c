"""The file holds another backbone, or the same one of another depth or width."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align import align_by_name
from ckptaudit.arch import Model
from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("architecture-variant", "Another backbone, depth or width", "error", "cause")

#: Below this share of tensors that do not fit, something smaller than the architecture differs.
_SUSPICIOUS_SHARE = 0.03
#: How much of a relative must fit to be named, heads aside.
_PROVEN_SHARE = 0.995
#: Relatives are built one by one, the nearest first; each takes a fraction of a second.
_MAX_RELATIVES = 8


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when the backbones' names differ, or when a relative of the model fits the file and the model does not."""
    file_side = tuple(n for n in (*comparison.unexpected, *comparison.mismatched.values()) if not _in_head(n, comparison))
    model_side = tuple(n for n in (*comparison.missing, *comparison.mismatched) if not _in_head(n, comparison))
    total = max(len(comparison.checkpoint.graph), len(comparison.model.graph))
    if len(file_side) + len(model_side) < _SUSPICIOUS_SHARE * total:
        return
    old, new = comparison.file_facts.backbone, comparison.model_facts.backbone
    relative = _relative_that_fits(comparison) if old != new or old is None else None
    if relative is None and (old is None or new is None or old == new):
        return
    held = old or (relative.arch if relative else "")
    wanted = new or comparison.model.arch
    if held == wanted and relative is not None:
        held = relative.arch
    proof = f" Every tensor but the head's fits {relative.arch}." if relative else ""
    yield RULE.finding(
        f"The file holds a {held} and the model is built on a {wanted}.{proof}",
        checkpoint=file_side,
        model=model_side,
        confidence=1.0 if relative else 0.95,
        fix=f"build {relative.arch}" if relative else f"build the model on a {held}",
        retry=[("--arch", relative.arch)] if relative else (),
        status="incompatible",
        phrase=f"the file holds a {held}, the model a {wanted}",
    )


def _in_head(name: str, comparison: Comparison) -> bool:
    scope = comparison.head_scope
    return comparison.is_auxiliary(name) or (bool(scope) and is_under(name, scope) and comparison.model_facts.backbone is not None)


def _relative_that_fits(comparison: Comparison) -> Model | None:
    """The first architecture of the model's family that the file restores into, other heads allowed."""
    for count, relative in enumerate(comparison.model.siblings()):
        if count == _MAX_RELATIVES:
            return None
        alignment = align_by_name(comparison.checkpoint.graph, relative.graph)
        counted = [spec.name for spec in relative.graph if not spec.buffer]
        fitting = sum(name in alignment.pairs for name in counted)
        heads = sum(name in alignment.mismatched or comparison.in_model_head(name) for name in counted if name not in alignment.pairs)
        unused = sum(not comparison.is_auxiliary(name) for name in alignment.unmatched_source)
        if fitting + min(heads, 8) >= _PROVEN_SHARE * len(counted) and fitting > 2 and unused <= 0.02 * len(comparison.checkpoint.graph):
            return relative
    return None
