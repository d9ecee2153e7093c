"""Show a network's tree, or a thousand names of it, on a page: repeats folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckptaudit.graph import Layer, LayerGraph
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import collapse_modules, fold_names, fold_numbers, leaf, split_name
from ckptaudit.records import dataclass, field


@dataclass(eq=False)
class Node:
    """A module in the tree: its layer, if it owns tensors, its children, and the trained values in it and below.

    Nodes with equal ``shape`` look the same from here down.
    """

    layer: Layer | None = None
    children: dict[str, Node] = field(default_factory=dict)
    shape: int = 0
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree: depth, name (``{0..2}`` for repeats), the module, and how many repeats it stands for."""

    depth: int
    name: str
    node: Node
    repeats: int


def build_tree(graph: LayerGraph) -> Node:
    """The module tree of a graph."""
    root = Node()
    for layer in graph.layers:
        node = root
        for segment in split_name(layer.path) if layer.path else ():
            node = node.children.setdefault(segment, Node())
        node.layer = layer
    _sum_up(root)
    return root


def folded_rows(root: Node, unfold: bool) -> Iterator[Row]:
    """Lines of the tree, depth first; runs of numbered siblings that look the same are one line unless ``unfold``."""
    stack = [(0, name, node, count) for name, node, count in reversed(_runs(root, unfold))]
    while stack:
        depth, name, node, count = stack.pop()
        yield Row(depth, name, node, count)
        stack += [(depth + 1, n, child, c) for n, child, c in reversed(_runs(node, unfold))]


def _runs(node: Node, unfold: bool) -> list[tuple[str, Node, int]]:
    runs: list[tuple[list[str], Node]] = []
    for name, child in node.children.items():
        last = runs[-1] if runs else None
        if not unfold and last and name.isdecimal() and last[0][-1].isdecimal() and last[1].shape == child.shape:
            last[0].append(name)
        else:
            runs.append(([name], child))
    return [(names[0] if len(names) == 1 else "{" + fold_numbers(map(int, names)) + "}", child, len(names)) for names, child in runs]


def _sum_up(root: Node) -> None:
    """Give every node its parameters and an identity that is equal for equal subtrees; iterative, since names may be deep."""
    known: dict[object, int] = {}
    order, stack = [], [root]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.children.values())
    for node in reversed(order):
        own = tuple((role, t.shape, t.dtype) for role, t in node.layer.tensors.items()) if node.layer else ()
        key = (own, tuple((name, child.shape) for name, child in node.children.items()))
        node.shape = known.setdefault(key, len(known))
        node.parameters = sum(child.parameters for child in node.children.values())
        if node.layer:
            node.parameters += sum(t.numel for t in node.layer.tensors.values() if not t.buffer)


def name_patterns(names: Sequence[str], graph: LayerGraph) -> list[str]:
    """Names of ``graph`` folded; where that is still too much to read, whole modules as ``module.**``."""
    folded = fold_names(names)
    if len(folded) > 2:
        # Counters are left out of most findings; a module without them is still the whole module.
        counters = {name for name in graph.tensors if leaf(name) in DERIVED_BUFFERS}
        folded = fold_names(collapse_modules(names, [name for name in graph.tensors if name not in counters or name in names]))
    return folded
