"""Group names by the place that explains them, so that 300 names under one prefix are one finding."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from ckptaudit.graph import LayerGraph
from ckptaudit.graph.kinds import BUFFER_ROLES, DERIVED_BUFFERS
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import common_prefix, is_under, leaf, numbers_masked, parent
from ckptaudit.records import dataclass
from ckptaudit.rules.wording import plural

#: Kinds of layers as messages call them; others are not named.
_KINDS = MappingProxyType({"conv": "conv ", "depthwise_conv": "depthwise conv ", "linear": "linear ", "batch_norm": "BatchNorm "})
_PARTS: Mapping[tuple[str, ...], tuple[str, str]] = MappingProxyType({("bias",): ("bias", "es"), ("weight",): ("weight", "s")})


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that one cause explains.

    Attributes
    ----------
    what:
        How many of what, in words: ``20 conv biases``, ``2 tensors``.
    place:
        Where all of them lie, or ``""``.
    names:
        The tensors.
    parts:
        They are parts of layers whose other tensors are there.
    """

    what: str
    place: str
    names: tuple[str, ...]
    parts: bool


def by_part_or_place(names: Iterable[str], graph: LayerGraph, kept: Collection[str]) -> Iterator[Group]:
    """Group ``names`` of a graph by what they are to the layers that are there without them, or else by the place: see :func:`by_cause`.

    ``kept`` are the paths of layers of which something is there. A bias that each of 20 layers lacks is one cause, wherever they lie.
    """
    parts: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    lacking: dict[str, dict[str, str]] = {}
    rest = []
    for name in names:
        layer = graph.by_path[parent(name)]
        role = next((role for role, spec in layer.tensors.items() if spec.name == name), "")  # of `a.b` and `a/b` a layer has one
        if layer.path in kept and role not in BUFFER_ROLES:
            lacking.setdefault(layer.path, {})[role] = name
        else:
            rest.append(name)
    for path, of_layer in lacking.items():
        parts.setdefault((_KINDS.get(graph.by_path[path].kind, ""), tuple(of_layer)), []).extend(of_layer.values())
    for (kind, roles), found in parts.items():
        word, ending = _PARTS.get(roles, ("tensor", "s"))
        yield Group(f"{len(found):,} {kind}{word}{'' if len(found) == 1 else ending}", "", tuple(found), parts=True)
    for place, found_here in by_cause(rest, graph.tensors):
        yield Group(plural(len(found_here), "tensor"), place, found_here, parts=False)


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


def lost_of(group: Group, kept: Iterable[str]) -> str:
    """What is lost, for a diagnosis: the place where it all was, or what of it where other tensors of that place are kept."""
    if not group.place:
        return group.what
    return f"{group.what} in `{group.place}`" if any(is_under(name, group.place) for name in kept) else f"`{group.place}`"
