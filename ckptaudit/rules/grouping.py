"""Group names by the place that explains them, so that 300 names under one prefix are one finding."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import common_prefix, leaf, numbers_masked, parent


def by_cause(names: Iterable[str], everything: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Group ``names``, some of the names of a graph, by the outermost modules that are concerned.

    A module whose tensors are *all* among ``names`` counts as one; such modules that stand in corresponding places of
    repeated blocks (``blocks.0.gate``, ``blocks.1.gate``) count together. Yields the common place and its names, in order.
    """
    chosen = dict.fromkeys(names)
    if not chosen:
        return
    touched: dict[str, int] = {}
    total: dict[str, int] = {}
    for name in everything:
        if leaf(name) in DERIVED_BUFFERS and name not in chosen:
            continue  # it is left out of what is missing, and does not make a module less missing
        path = parent(name)
        while path:
            total[path] = total.get(path, 0) + 1
            touched[path] = touched.get(path, 0) + (name in chosen)
            path = parent(path)
    whole = {path for path in module_paths(list(chosen)) if touched[path] == total[path]}
    groups: dict[str, list[str]] = {}
    for name in chosen:
        root = outermost = parent(name)
        while root:
            if root in whole:
                outermost = root
            root = parent(root)
        groups.setdefault(numbers_masked(parent(outermost) if parent(outermost) else outermost), []).append(name)
    for group in groups.values():
        yield common_prefix(group), tuple(group)
