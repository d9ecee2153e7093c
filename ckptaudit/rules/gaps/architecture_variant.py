"""The file holds another backbone, or the same one of another depth or width."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align import align_by_name
from ckptaudit.arch.model import Model
from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("architecture-variant", "Another backbone, depth or width", "error", "architecture")

#: Below this share of tensors that do not fit, something smaller than the architecture differs.
_SUSPICIOUS_SHARE = 0.03
#: From this share of the tensors with equal names, other shapes are a matter of the whole network; not among a handful.
_OTHER_SHAPES, _FEW = 0.4, 8
#: How much of a relative must fit to be named, heads aside.
_PROVEN_SHARE = 0.995
#: Relatives are built one by one, the nearest first; each takes a fraction of a second.
_MAX_RELATIVES = 8


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding when the backbones' names differ, or a relative of the model fits the file, or most shapes differ."""
    if comparison.explained or (comparison.unrelated and not comparison.other_backbone):
        return
    mismatched = tuple(name for name in comparison.mismatched if not _in_head(name, comparison) or _other_inputs(name, comparison))
    missing, unexpected = (
        tuple(name for name in names if not comparison.is_auxiliary(name)) for names in (comparison.missing, comparison.unexpected)
    )
    outside = sum(not _in_head(name, comparison) for name in (*missing, *unexpected)) + 2 * len(mismatched)
    if outside < _SUSPICIOUS_SHARE * max(len(comparison.checkpoint.graph), len(comparison.model.graph)):
        return
    old, new = comparison.file_facts.backbone, comparison.model_facts.backbone
    relative, exact = _relative_that_fits(comparison) if old != new or old is None else (None, False)
    file_side, model_side = (*unexpected, *(comparison.mismatched[name] for name in mismatched)), (*missing, *mismatched)
    if relative is None and (old is None or new is None or old == new):
        corresponding = comparison.corresponding
        if (missing or unexpected) and len(mismatched) > _OTHER_SHAPES * corresponding > _FEW:
            other = comparison.identity
            yield RULE.finding(
                f"The file holds a network of another depth and width: of {plural(corresponding, 'tensor')} with the same names "
                f"{len(mismatched)} have other shapes, {len(missing)} are only in the model and {len(unexpected)} only in the file."
                + (f" Its tensors are those of {other.arch}." if other else ""),
                checkpoint=file_side,
                model=model_side,
                confidence=0.9,
                fix=f"build {other.arch}" if other else "build the variant that the file was trained as",
                retry=[("--arch", other.arch)] if other else (),
                status="incompatible",
                phrase="a network of another depth and width",
            )
        return
    if relative is not None and (old is None or new is None):
        old, new = relative.arch, comparison.model.arch
    other = comparison.identity if relative is None else None
    held, wanted = _with_article(old or ""), _with_article(new or "")
    if relative is not None:
        proof = f" Every tensor{'' if exact else ' outside the heads'} fits {relative.arch}."
    else:
        proof = f" Its tensors are those of {other.arch}." if other else ""
    build = relative.arch if relative else other.arch if other else None
    yield RULE.finding(
        f"The file holds {held} and the model is built on {wanted}.{proof}",
        checkpoint=file_side,
        model=model_side,
        confidence=1.0 if relative else 0.95,
        fix=f"build {build}" if build else f"build the model on {held}",
        retry=[("--arch", build)] if build else (),
        status="incompatible",
        phrase=f"the file holds {held}, the model {wanted}",
    )


def _with_article(name: str) -> str:
    """Published names get their article; descriptions (``a ResNet of …``) have one."""
    if name.startswith(("a ", "an ")):
        return name
    return f"{'an' if name[:1] in 'aeio' else 'a'} {name}"


def _in_head(name: str, comparison: Comparison) -> bool:
    scope = comparison.head_scope
    return comparison.is_auxiliary(name) or (bool(scope) and is_under(name, scope) and comparison.model_facts.backbone is not None)


def _other_inputs(name: str, comparison: Comparison) -> bool:
    """Whether a layer of the head takes other features, which comes with another backbone; other outputs are another matter."""
    old, new = comparison.shapes(name)
    return old[1:] != new[1:]


def _relative_that_fits(comparison: Comparison) -> tuple[Model | None, bool]:
    """The first architecture of the model's family that the file restores into, other heads allowed; whether they fit too."""
    for count, relative in enumerate(comparison.model.siblings()):
        if count == _MAX_RELATIVES:
            break
        alignment = align_by_name(comparison.checkpoint.graph, relative.graph)
        counted = [spec.name for spec in relative.graph if not spec.buffer]
        fitting = sum(name in alignment.pairs for name in counted)
        heads = sum(name in alignment.mismatched or comparison.in_model_head(name) for name in counted if name not in alignment.pairs)
        unused = sum(not comparison.is_auxiliary(name) for name in alignment.unmatched_source)
        if fitting + min(heads, 8) >= _PROVEN_SHARE * len(counted) and fitting > 2 and unused <= 0.02 * len(comparison.checkpoint.graph):
            return relative, fitting == len(counted)
    return None, False
