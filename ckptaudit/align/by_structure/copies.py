"""A second copy of the model in one graph: an EMA, a teacher, a momentum encoder. One is aligned, the other named as runner-up."""

from __future__ import annotations

from collections import Counter

from ckptaudit.align.by_structure.samename import outer_modules
from ckptaudit.align.by_structure.words import masked, tokens
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import parent
from ckptaudit.records import dataclass

__all__ = ["Twin", "find_twin"]

#: A copy holds at least this share of all tensors, and at least this share of it has a twin.
_LARGE, _EQUAL = 0.25, 0.95
#: Two members of one series (net1, net2) are copies if they hold this share of all tensors together.
_WHOLE = 0.9

_COPIES = frozenset({"ema", "teacher", "shadow", "averaged", "average", "swa", "momentum", "target", "copy"})


@dataclass(frozen=True, slots=True)
class Twin:
    """Names of the copy, and for each name of the original its twin in the copy."""

    names: frozenset[str]
    twin_of: dict[str, str]


def find_twin(graph: LayerGraph) -> Twin | None:
    """The copy inside a graph, if there is one: the one that says so, else the later."""
    names = list(graph.tensors)
    count = Counter(path for name in names for path in outer_modules(name, 2))
    fitting = {path for path, number in count.items() if _LARGE * len(names) <= number <= (1 - _LARGE) * len(names)}
    large: dict[str, list[str]] = {path: [] for path in fitting}
    for name in names if fitting else ():
        for path in outer_modules(name, 2):
            if path in fitting:
                large[path].append(name)
    large = {path: held for path, held in large.items() if len({parent(name) for name in held}) > 1}  # one layer is no model
    for copy in sorted(large, key=lambda path: (not _says_so(path), -len(large[path]), path)):
        for original in ("", *large):
            if original == copy or _inside(original, copy) or (original and _inside(copy, original)):
                continue
            if masked(original) == masked(copy) and len(large[original]) + len(large[copy]) < _WHOLE * len(names):
                continue  # of two blocks of one series (layer3, layer4) neither is a copy of the model
            twins = _twins(graph, original, copy, large[copy])
            if len(twins) >= _EQUAL * len(large[copy]) and not (_says_so(original) and not _says_so(copy)):
                return Twin(frozenset(large[copy]), twins)
    return None


def _twins(graph: LayerGraph, original: str, copy: str, names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        twin = original + name[len(copy) :] if original else name[len(copy) + 1 :]
        if twin in graph.tensors and graph.tensors[twin].shape == graph.tensors[name].shape:
            found[twin] = name
    return found


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith((outer + ".", outer + "/"))


def _says_so(path: str) -> bool:
    return not _COPIES.isdisjoint(word for segment in path.replace("/", ".").split(".") for word in tokens(segment))
