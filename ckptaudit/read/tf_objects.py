"""The object graph in a TensorFlow 2 checkpoint: what each variable is called, and in which order it came into being."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.read.protobuf import fields, numbers
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

_MAX_NODES = 1 << 19
_ITERATIONS = frozenset({"iter", "_iterations", "iterations"})
_TRAINED = "_trainable_variables"


@dataclass(slots=True)
class Node:
    """One object: its children by name, and the checkpoint keys of its attributes with TensorFlow's name for each."""

    children: list[tuple[int, str]] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    slots: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def is_optimizer(self) -> bool:
        """Whether it counts iterations, or keeps slots for the variables of others."""
        return bool(self.slots) or any(name in _ITERATIONS for _, name in self.children)


@dataclass(frozen=True, slots=True)
class Variable:
    """What the graph tells of one checkpoint key.

    Attributes
    ----------
    position:
        Of its object among all objects: the order of a walk from the root, breadth first.
    full_name:
        TensorFlow's own name (``conv1/kernel``), or ``""``.
    slot_of:
        For an optimizer's slot: the key of the variable that it belongs to, and the slot's name.
    of_optimizer:
        Only an optimizer holds it; a model's variables, too, are held by the optimizer that trains them.
    """

    position: int
    full_name: str
    slot_of: tuple[str, str] | None = None
    of_optimizer: bool = False


def variables(message: bytes, error: Callable[[str], Exception]) -> dict[str, Variable]:
    """What the graph tells of each checkpoint key.

    Raises
    ------
    Exception
        From ``error``: the message is damaged.
    """
    nodes = list(_nodes(message, error))
    keys = [next((key for _, _, key in node.attributes if key.endswith(VALUE)), "") for node in nodes]
    slots: dict[int, tuple[str, str]] = {}
    for node in nodes:
        for original, name, slot in node.slots:
            if original < len(nodes) and slot < len(nodes):
                slots[slot] = (keys[original], name)
    of_model = _reached(nodes)
    found: dict[str, Variable] = {}
    for position, node in enumerate(nodes):
        for _, full_name, key in node.attributes:
            found.setdefault(key, Variable(position, full_name, slots.get(position), position not in of_model))
    return found


def _reached(nodes: list[Node]) -> set[int]:
    """Objects that the root holds other than through an optimizer alone."""
    reached, todo = {0}, [0]
    while todo:
        node = nodes[todo.pop()] if nodes else Node()
        optimizer = node.is_optimizer
        for child, name in node.children:
            # What an optimizer trains belongs to the model, even where nothing else in the file names it.
            if child < len(nodes) and child not in reached and (not optimizer or name == _TRAINED):
                reached.add(child)
                todo.append(child)
    return reached


def _nodes(message: bytes, error: Callable[[str], Exception]) -> Iterator[Node]:
    count = 0
    for number, _, value in fields(message, error):
        if number != 1 or not isinstance(value, bytes):
            continue
        count += 1
        if count > _MAX_NODES:
            raise error(f"has more than {_MAX_NODES:,} objects")
        node = Node()
        for part, _, content in fields(value, error):
            if not isinstance(content, bytes):
                continue
            if part == 1:
                node.children.append((numbers(content, frozenset({1}), error).get(1, 0), _text(content, 2, error)))
            elif part == 2:
                node.attributes.append((_text(content, 1, error), _text(content, 2, error), _text(content, 3, error)))
            elif part == 3:
                told = numbers(content, frozenset({1, 3}), error)
                node.slots.append((told.get(1, 0), _text(content, 2, error), told.get(3, 0)))
        yield node


def _text(message: bytes, wanted: int, error: Callable[[str], Exception]) -> str:
    found = b""
    for number, _, value in fields(message, error):
        if number == wanted and isinstance(value, bytes):
            found = value
    return found.decode("utf-8", "surrogateescape")
