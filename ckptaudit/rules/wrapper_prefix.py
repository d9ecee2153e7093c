"""Names that carry the segments of a training wrapper, such as ``module.`` or ``_orig_mod.``.

``load_state_dict(strict=False)`` then matches nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.align.wrappers import WRAPPERS
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("wrapper-prefix", "Names carry a wrapper's segments", "warning", "cause")

#: Attributes under which trainers keep the network: the whole model below one of them is a wrapper too.
TRAINER_ATTRIBUTES = frozenset({"model", "net", "network", "student", "online", "generator_model", "_model", "segmentor", "detector"})


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all wrapper segments together: they are removed together."""
    alignment = comparison.alignment
    held: dict[str, tuple[str, ...]] = dict(alignment.wrappers)
    for scope in alignment.scopes:
        if is_trainer_attribute(scope.source) and not scope.target:
            held[scope.source] = tuple(n for n in comparison.checkpoint.graph.tensors if n.startswith(scope.source + "."))
    if not held:
        return
    names = tuple(dict.fromkeys(name for group in held.values() for name in group))
    removable = [word for word in held if word not in comparison.model.graph.tensors]
    words = ", ".join(f"`{word}.`" for word in removable)
    tools = "; ".join(WRAPPERS.get(word, "the attribute under which a trainer keeps its network") for word in removable)
    yield RULE.finding(
        f"{len(names)} of {len(comparison.checkpoint.graph)} names carry {words} ({tools}). "
        "Loaded as they are, with strict=False, they set nothing.",
        checkpoint=names,
        fix=f"remove the segment{'s' if len(held) > 1 else ''} {words} from the names",
        status="remappable",
        phrase=f"names wrapped in {words}",
    )


def is_trainer_attribute(path: str) -> bool:
    """Whether every segment of ``path`` is a word under which trainers keep a whole network."""
    return bool(path) and all(word in TRAINER_ATTRIBUTES or word in WRAPPERS for word in path.split("."))
