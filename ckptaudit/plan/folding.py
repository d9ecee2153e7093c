"""Lists of names as a shell would brace them, in their order: ``layer1.{0..2}.{conv1.weight,bn1.{weight,bias}}``.

Unlike :func:`ckptaudit.graph.names.fold_names`, which is for reading only, these patterns are read back, name for name and in order.
A character that braces give a meaning is written with a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ckptaudit.errors import PlanError
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import dataclass, field

_BOUNDARY = compiled_when_used(r"(?<=[./])")
_SPECIAL = compiled_when_used(r"[\\{},]")
_RANGE = compiled_when_used(r"(0|[1-9]\d{0,8})\.\.(0|[1-9]\d{0,8})")
#: A line longer than this is broken into several patterns, where the names allow it.
_WIDTH = 120
_MAX_DEPTH = 100


@dataclass(eq=False)
class _Node:
    piece: str
    children: list[_Node] = field(default_factory=list)


def fold_in_order(names: Iterable[str]) -> list[str]:
    """Patterns that :func:`unfold` expands to exactly these names, in this order, repeated ones included."""
    root = _Node("")
    for name in names:
        node = root
        pieces = _BOUNDARY.split(name)
        for i, piece in enumerate(pieces):
            last = node.children[-1] if node.children else None
            if last is None or last.piece != piece or i == len(pieces) - 1:
                last = _Node(piece)
                node.children.append(last)
            node = last
    return [pattern for child in root.children for pattern in _lines(child, "", 0)]


def _lines(node: _Node, prefix: str, depth: int) -> Iterator[str]:
    """One pattern for everything below, or several when it would be too long to read."""
    head = prefix + _SPECIAL.sub(r"\\\g<0>", node.piece)
    if not node.children:
        yield head
        return
    if depth < _MAX_DEPTH // 2 and _size(node, _WIDTH) <= _WIDTH:
        whole = prefix + _folded(node)
        if len(whole) <= _WIDTH:
            yield whole
            return
    packed: list[str] = []
    for group in _alike(node.children):
        small = all(_size(child, _WIDTH) <= _WIDTH for child in group) and depth < _MAX_DEPTH // 2
        part = _braced(group) if small else ""
        if packed and (not part or len(head) + len(",".join([*packed, part])) + 2 > _WIDTH):
            yield head + _joined(packed)
            packed = []
        if part and len(head + part) <= _WIDTH:
            packed.append(part)
            continue
        for child in group:
            yield from _lines(child, head, depth + 1)
    if packed:
        yield head + _joined(packed)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else "{" + ",".join(parts) + "}"


def _size(node: _Node, limit: int) -> int:
    """Number of nodes below, counted no further than a folded line could hold many times over."""
    count, stack = 0, [node]
    while stack and count <= limit * 8:
        count += 1
        stack += stack.pop().children
    return 0 if count <= limit * 8 else limit + 1


def _folded(node: _Node) -> str:
    piece = _SPECIAL.sub(r"\\\g<0>", node.piece)
    if not node.children:
        return piece
    parts = [_braced(group) for group in _alike(node.children)]
    return piece + _joined(parts)


def _alike(children: Sequence[_Node]) -> list[list[_Node]]:
    """Neighbours with the same names below, so that their own segments can be braced."""
    groups: list[tuple[object, list[_Node]]] = []
    for child in children:
        shape = (child.piece[-1:] in "./", _below(child))
        if groups and groups[-1][0] == shape and child.children:
            groups[-1][1].append(child)
        else:
            groups.append((shape, [child]))
    return [group for _, group in groups]


def _below(node: _Node) -> object:
    return tuple((child.piece, _below(child)) for child in node.children)


def _braced(group: list[_Node]) -> str:
    if len(group) == 1:
        return _folded(group[0])
    below = _folded(_Node("", group[0].children))
    ends = {node.piece[-1:] for node in group}
    words = [node.piece[:-1] for node in group]
    if len(ends) > 1:
        return "{" + ",".join(map(_folded, group)) + "}"
    numbers = [int(word) if re.fullmatch(r"0|[1-9]\d{0,8}", word) else -1 for word in words]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] >= 0:
        inside = f"{numbers[0]}..{numbers[-1]}"
    else:
        inside = ",".join(_SPECIAL.sub(r"\\\g<0>", word) for word in words)
        if len(words) == 1:
            return "{" + inside + "}" + ends.pop() + below
    return "{" + inside + "}" + ends.pop() + below


def unfold(pattern: str, limit: int = 1_000_000) -> list[str]:
    """The names that a pattern stands for, in order.

    Raises
    ------
    PlanError
        Braces do not match, or there would be more than ``limit`` names.
    """
    names, end = _sequence(pattern, 0, limit, 0)
    if end != len(pattern):
        raise PlanError(f"the pattern {pattern[:200]!r} has a brace that was not opened")
    return names


def _sequence(pattern: str, at: int, limit: int, depth: int) -> tuple[list[str], int]:
    """Names from ``at`` up to a comma or closing brace that belongs to the braces around (or to the end)."""
    if depth > _MAX_DEPTH:
        raise PlanError(f"the pattern {pattern[:200]!r} is nested too deep")
    names = [""]
    literal = ""
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            literal += pattern[at + 1]
            at += 2
        elif character == "{":
            options, at = _options(pattern, at + 1, limit, depth + 1)
            names = [name + literal for name in names] if literal else names
            literal = ""
            if len(names) * len(options) > limit:
                raise PlanError(f"the pattern {pattern[:200]!r} stands for more than {limit:,} names")
            names = [name + option for name in names for option in options]
        elif character == "}" or (character == "," and depth):
            break
        else:
            literal += character
            at += 1
    return ([name + literal for name in names] if literal else names), at


def _options(pattern: str, at: int, limit: int, depth: int) -> tuple[list[str], int]:
    whole = _RANGE.match(pattern, at)
    if whole and pattern[whole.end() : whole.end() + 1] == "}":
        first, last = int(whole[1]), int(whole[2])
        if last - first >= limit:
            raise PlanError(f"the pattern {pattern[:200]!r} stands for more than {limit:,} names")
        return [str(number) for number in range(first, last + 1)], whole.end() + 1
    options: list[str] = []
    while True:
        found, at = _sequence(pattern, at, limit, depth)
        options += found
        if at >= len(pattern):
            raise PlanError(f"the pattern {pattern[:200]!r} has a brace that is not closed")
        at += 1
        if pattern[at - 1] == "}":
            return options, at
