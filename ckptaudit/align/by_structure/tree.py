"""Step 3: the module tree of each side, its atoms, and the keys by which atoms can be told apart.

An *atom* is a layer's own tensors, or one parameter that stands for itself. Atoms are numbered in the order of the
tree, so that every node is a range of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from math import prod

from ckptaudit.align.by_structure.reading import Item, Side
from ckptaudit.align.by_structure.words import masked, numbers_in
from ckptaudit.records import dataclass

__all__ = ["Forest", "Ids", "Node", "Series"]

Path = tuple[str, ...]


class Ids:
    """Small numbers for values, the same number for the same value on both sides; 0 is kept for "none"."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def __getitem__(self, value: Hashable) -> int:
        return self._known.setdefault(value, len(self._known) + 1)

    def __len__(self) -> int:
        return len(self._known) + 1


class Node:
    """A module, or an atom.

    Attributes
    ----------
    segment:
        Its name under its parent; ``""`` for the atom of a module that has submodules too.
    path:
        Segments from the root down to it.
    parent, children:
        The tree; an atom has no children.
    atom:
        Number of the atom, or -1.
    low, high:
        The atoms below it: ``range(low, high)``.
    build:
        Equal for nodes with the same names, roles and shapes in the same order below them.
    naming:
        Equal for nodes with the same set of names and roles below them.
    """

    __slots__ = ("atom", "build", "children", "high", "low", "naming", "parent", "path", "segment")

    def __init__(self, segment: str, path: Path, parent: Node | None) -> None:
        self.segment = segment
        self.path = path
        self.parent = parent
        self.children: Sequence[Node] = ()
        self.atom = -1
        self.low = self.high = 0
        self.build = self.naming = 0

    def add(self, child: Node) -> None:
        """Put a child behind the others."""
        if isinstance(self.children, list):
            self.children.append(child)
        else:  # most nodes are atoms and need no list
            self.children = [child]

    def below(self, ancestor: Node) -> tuple[str, ...]:
        """Segments from below ``ancestor`` down to this node."""
        return self.path[len(ancestor.path) :]

    def walk(self) -> Iterator[Node]:
        """The node itself and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class Series:
    """Siblings whose names differ in their number only: their numbers, and whether they are containers that are all in the group."""

    numbers: frozenset[int]
    stack: bool


class Forest:
    """The tree of one side with its atoms.

    Attributes
    ----------
    top, root:
        The tree's root, and the scope around it: an encoder's root corresponds to a part of a larger model.
    atoms:
        The atoms' nodes, in the order of the tree.
    items:
        The tensors of each atom.
    known:
        The strict keys that occur.
    keys:
        For each atom three numbers, from strict to loose: all its shapes; those of two dimensions and more; rows and
        size of these (a convolution that is a linear layer elsewhere). 0 where there is nothing to compare.
    """

    def __init__(self, side: Side, ids: Ids, builds: Ids) -> None:
        self.side = side
        self.top = Node("", (), None)
        self.root = Node("", (), self.top)
        self.top.add(self.root)
        self.atoms: list[Node] = []
        self.items: list[list[Item]] = []
        self.keys: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._pending: dict[int, list[Item]] = {}
        self._names: dict[int, frozenset[tuple[str, ...]]] = {}
        self._series: dict[int, dict[str, list[int]]] = {}
        self._plant()
        self._number(ids, builds)
        self.known = frozenset(self.keys[0])

    def _plant(self) -> None:
        nodes: dict[tuple[str, ...], Node] = {(): self.root}
        for path in self.side.layers:
            self._node(path, nodes)
        for path, items in self.side.layers.items():
            node = nodes[path]
            if node.children or node is self.root:
                own = Node("", path, node)
                node.children = [own, *node.children]
                self._pending[id(own)] = items
            else:
                self._pending[id(node)] = items

    def _node(self, path: tuple[str, ...], nodes: dict[tuple[str, ...], Node]) -> Node:
        node = nodes.get(path)
        if node is None:
            above = self._node(path[:-1], nodes)
            node = nodes[path] = Node(path[-1], path, above)
            above.add(node)
        return node

    def _number(self, ids: Ids, builds: Ids) -> None:
        strict, skeleton, flat = self.keys
        pending = self._pending
        for node, leaving in _postorder(self.top):
            if not leaving:
                number = node.low = len(self.atoms)
                if not node.children and id(node) in pending:
                    items = pending.pop(id(node))
                    node.atom = number
                    self.atoms.append(node)
                    self.items.append(items)
                    shapes = sorted(item.shape for item in items)
                    matrices = [shape for shape in shapes if len(shape) > 1]
                    strict.append(ids[0, *shapes])
                    skeleton.append(ids[1, *matrices] if matrices else 0)
                    flat.append(ids[2, *sorted((shape[0], prod(shape)) for shape in matrices)] if matrices else 0)
            else:
                node.high = len(self.atoms)
                self._name(node, builds)

    def names(self, node: Node) -> frozenset[tuple[str, ...]]:
        """Relative paths of the atoms below a node."""
        known = self._names.get(node.naming)
        if known is None:
            known = self._names[node.naming] = frozenset(self.atoms[i].below(node) for i in range(node.low, node.high))
        return known

    def series(self, nodes: Sequence[Node]) -> Series | None:
        """The numbered series that nodes, or what each of them lies in, are members of, if it is one and the same."""
        depth = next((i for i, segments in enumerate(zip(*(node.path for node in nodes), strict=False)) if len(set(segments)) > 1), None)
        if depth is None or len({(masked(node.path[depth]), *node.path[depth + 1 :]) for node in nodes}) > 1:
            return None
        member = nodes[0]
        while len(member.path) > depth + 1 and member.parent is not None:
            member = member.parent
        numbers = self._numbers_in(member.parent).get(masked(member.segment), ()) if member.parent is not None else ()
        return Series(frozenset(numbers), member.atom < 0 and len(numbers) == len(nodes)) if numbers else None

    def _numbers_in(self, parent: Node) -> dict[str, list[int]]:
        """Numbers of a node's children that have one, by the rest of their names."""
        known = self._series.get(id(parent))
        if known is None:
            known = self._series[id(parent)] = {}
            for child in parent.children:
                if len(numbers := numbers_in(child.segment)) == 1:
                    known.setdefault(masked(child.segment), []).append(numbers[0])
        return known

    def _name(self, node: Node, builds: Ids) -> None:
        if node.atom >= 0:
            items = self.items[node.atom]
            node.build = builds["atom", *((item.role, item.shape) for item in items)]
            node.naming = builds["roles", *sorted(item.role for item in items)]
        else:
            node.build = builds["module", *((child.segment, child.build) for child in node.children)]
            node.naming = builds["names", *sorted((child.segment, child.naming) for child in node.children)]
        if node is self.top:
            node.naming = self.root.naming  # the same names, one level further out


def _postorder(root: Node) -> Iterator[tuple[Node, bool]]:
    """Every node twice: on the way down (False) and, after its children, on the way up (True)."""
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        yield node, leaving
        if not leaving:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def masked_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path with its numbers masked."""
    return tuple(map(masked, path))


def numbers_of(path: tuple[str, ...]) -> tuple[int, ...]:
    """The numbers in a path, in order."""
    return tuple(number for segment in path for number in numbers_in(segment))
