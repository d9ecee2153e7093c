"""Which module of the file is which module of the model, told by their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ckptaudit.align.pairs import Pair
from ckptaudit.graph.names import leaf, parent


def module_in_file(pairs: Mapping[str, Pair]) -> Callable[[str], str | None]:
    """What gives the path in the file of a module of the model; None for one that has no counterpart.

    A module that owns no tensors (an activation) lies below its parent's counterpart, under its own name.
    """
    known: dict[str, str] = {}
    for target, pair in pairs.items():
        if len(pair.sources) != 1:
            continue
        there, here = parent(target), parent(pair.sources[0])
        while there not in known:
            known[there] = here
            if not there or not here or leaf(there) != leaf(here):
                break
            there, here = parent(there), parent(here)

    def find(path: str) -> str | None:
        rest = ""
        while path not in known:
            if not path:
                return None
            rest = f"{leaf(path)}.{rest}" if rest else leaf(path)
            path = parent(path)
        return f"{known[path]}.{rest}" if known[path] and rest else known[path] or rest

    return find
