"""The fewest rules that say a renaming, found on the tree of names as a router finds the fewest routes.

A *rule* stands at a node of the tree of old names: it replaces the leading segments up to there, and holds for every name below unless
a rule further down does. The tree's nodes are segments in which numbers are *slots* (``layer1.0.`` → ``layer#.#.``), so that one rule
serves all repeats of a block, unless their new names disagree; then the numbers that differ become literal.

On that tree the fewest rules are found in one pass up and one down (Draves et al., "Constructing optimal IP routing tables", 1999):
on the way up each node keeps the replacements that most of its children could live with, on the way down a rule is written
wherever the one from above is not among them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import dataclass, field

#: Stands for a number in a masked name; followed by the slot's position and another one in a replacement.
_SLOT = "\0"
_NUMBER = compiled_when_used(r"(\d+)")
_BOUNDARY = compiled_when_used(r"(?<=[./])")
_REFERENCE = compiled_when_used(r"\0(\d+)\0")
#: More exceptions than this are rules of their own, not part of another rule's pattern.
_MAX_EXCEPTIONS = 4

#: New leading segments, each with its separator; slots as ``\0position\0``.
_Effect = tuple[str, ...]
#: The numbers of an old name that are slots, and its new name.
_Row = tuple[tuple[str, ...], str]


@dataclass(eq=False)
class _Node:
    piece: str
    key: str
    parent: _Node | None
    children: dict[str, _Node] = field(default_factory=dict)
    effects: set[_Effect] = field(default_factory=set)
    rule: _Effect | None = None
    above: _Effect = ()

    @property
    def first_slot(self) -> int:
        return self.key.count(_SLOT) - self.piece.count(_SLOT)

    @property
    def is_name(self) -> bool:
        return not self.children

    def unchanged_piece(self) -> str:
        """The node's own segment as a replacement that leaves it as it is."""
        return _numbered(self.piece, self.first_slot)

    def lifted(self, effect: _Effect) -> _Effect | None:
        """The same replacement said one segment further up, if the last segment stays as it is."""
        if not effect or effect[-1] != self.unchanged_piece():
            return None
        slots = range(self.first_slot, self.first_slot + self.piece.count(_SLOT))
        if any(f"{_SLOT}{slot}{_SLOT}" in piece for slot in slots for piece in effect[:-1]):
            return None
        return effect[:-1]


def smallest_rules(wanted: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Rules (pattern, replacement) that should turn every key into its value, the first match counting; best ones first.

    Each set is to be tried on all names before it is believed.
    """
    if any(_SLOT in old or _SLOT in new for old, new in wanted.items()):
        return
    for mask in (True, False):
        root, nodes = _tree(_masked(wanted) if mask else wanted)
        _collect_effects(nodes)
        _place_rules(root, nodes)
        placed = _in_order(root, nodes)
        yield _spelled(placed, with_exceptions=True)
        yield _spelled(placed, with_exceptions=False)


def _masked(wanted: Mapping[str, str]) -> dict[str, str]:
    """Old names with slots for numbers, as many as agree with the new names, and the new name of all that are alike then."""
    literal: dict[str, set[str]] = {}
    groups: dict[str, list[_Row]] = {}
    templates: dict[str, str | None] = {}
    pending = list(wanted.items())
    while pending:
        touched = set()
        for old, new in pending:
            key, slots = _mask(old, literal)
            groups.setdefault(key, []).append((slots, new))
            touched.add(key)
        changed: set[str] = set()
        for key in touched:
            templates[key] = _template(groups[key])
            for prefix, numbers in _literal_numbers(key, groups[key], templates[key]):
                literal.setdefault(prefix, set()).update(numbers)
                changed.add(prefix)
        pending = []
        if changed:
            for key in [key for key in groups if any(key[: m.start()] in changed for m in re.finditer(_SLOT, key))]:
                pending += [(_filled(key, slots), new) for slots, new in groups.pop(key)]
    return {key: template for key in groups if (template := templates[key]) is not None}  # all have one: groups are made so


def _mask(name: str, literal: Mapping[str, set[str]]) -> tuple[str, tuple[str, ...]]:
    tokens = _NUMBER.split(name)
    if not literal:
        return _SLOT.join(tokens[::2]), tuple(tokens[1::2])
    key, slots = "", []
    for i, token in enumerate(tokens):
        if i % 2 and token not in literal.get(key, ()):
            slots.append(token)
            key += _SLOT
        else:
            key += token
    return key, tuple(slots)


def _filled(key: str, slots: tuple[str, ...]) -> str:
    texts = key.split(_SLOT)
    return "".join(text + number for text, number in zip(texts, (*slots, ""), strict=True))


def _literal_numbers(key: str, rows: list[_Row], template: str | None) -> Iterator[tuple[str, set[str]]]:
    """Numbers that must be literal, by the text before them, so that the rows agree on one replacement."""
    places = [m.start() for m in re.finditer(_SLOT, key)]
    if template is not None:
        used = {int(slot) for slot in _REFERENCE.findall(template)}
        for slot, place in enumerate(places):
            if slot not in used:
                yield key[:place], {slots[slot] for slots, _ in rows}
                return  # one at a time: a literal number changes what is the text before the next
        return
    best: tuple[int, int] | None = None
    for slot in range(len(places)):
        parts = _parts(rows, slot)
        if len(parts) > 1 and all(_template(part) is not None for part in parts.values()):
            best = min(best or (len(parts), -slot), (len(parts), -slot))
    slot = -best[1] if best else next(slot for slot in range(len(places)) if len(_parts(rows, slot)) > 1)
    parts = _parts(rows, slot)
    alike = Counter(_template(part) for part in parts.values())
    (common, count), *_ = alike.most_common(1)
    keep = {number for number, part in parts.items() if count > 1 and common is not None and _template(part) == common}
    yield key[: places[slot]], parts.keys() - keep


def _parts(rows: list[_Row], slot: int) -> dict[str, list[_Row]]:
    parts: dict[str, list[_Row]] = {}
    for row in rows:
        parts.setdefault(row[0][slot], []).append(row)
    return parts


def _template(rows: list[_Row]) -> str | None:
    """The one new name of all rows with slots in the place of numbers, or None where they disagree."""
    columns = [_NUMBER.split(new) for _, new in rows]
    texts = columns[0][::2]
    if any(tokens[::2] != texts for tokens in columns[1:]):
        return None
    width, count = len(rows[0][0]), len(texts) - 1
    chosen: list[str] = []
    unused = list(range(width))
    for place in reversed(range(count)):
        numbers = [tokens[2 * place + 1] for tokens in columns]
        aligned = width - (count - place)  # counted from the end, since trailing segments mostly stay
        order = [slot for slot in (aligned, *reversed(unused)) if slot in unused]
        slot = next((slot for slot in order if all(slots[slot] == n for (slots, _), n in zip(rows, numbers, strict=True))), None)
        if slot is None and len(set(numbers)) == 1:
            chosen.append(numbers[0])
            continue
        if slot is None:
            again = range(width)
            slot = next((slot for slot in again if all(slots[slot] == n for (slots, _), n in zip(rows, numbers, strict=True))), None)
        if slot is None:
            return None
        if slot in unused:
            unused.remove(slot)
        chosen.append(f"{_SLOT}{slot}{_SLOT}")
    return "".join(text + number for text, number in zip(texts, [*reversed(chosen), ""], strict=True))


def _tree(templates: Mapping[str, str]) -> tuple[_Node, list[_Node]]:
    """The root, and all nodes with parents before children."""
    root = _Node("", "", None)
    nodes = [root]
    for key, template in templates.items():
        node = root
        for piece in _BOUNDARY.split(key):
            child = node.children.get(piece)
            if child is None:
                child = node.children[piece] = _Node(piece, node.key + piece, node)
                nodes.append(child)
            node = child
        node.effects = {tuple(_BOUNDARY.split(template))}
    return root, nodes


def _collect_effects(nodes: list[_Node]) -> None:
    for node in reversed(nodes):
        if node.children:
            votes: Counter[_Effect] = Counter()
            for child in node.children.values():
                votes.update(effect for old in child.effects if (effect := child.lifted(old)) is not None)
            most = max(votes.values(), default=0)
            node.effects = {effect for effect, count in votes.items() if count == most}


def _place_rules(root: _Node, nodes: list[_Node]) -> None:
    for node in nodes:
        if node.parent is not None:
            over = node.parent
            inherited = over.rule if over.rule is not None else over.above
            node.above = (*inherited, node.unchanged_piece())
        if node.effects and node.above not in node.effects:
            node.rule = min(node.effects, key=lambda effect: (len(effect), effect))


def _in_order(root: _Node, nodes: list[_Node]) -> list[_Node]:
    """Nodes with rules so that the first match is the deepest one, and a literal number comes before any number."""
    below: dict[_Node, list[_Node]] = {}
    for node in reversed(nodes):
        rules: list[_Node] = []
        children = sorted(node.children.values(), key=lambda child: child.piece.count(_SLOT))
        for i, child in enumerate(children):
            if child.rule is None and any(below[other] and _covers(other, child) for other in children[i + 1 :] if _SLOT in other.piece):
                child.rule = child.above  # or a rule for any number would be taken for this one
                below[child].append(child)
            rules += below.pop(child) if child.rule is None or below[child] else []
        if node.rule is not None:
            rules.append(node)
        below[node] = rules
    return below[root]


def _covers(general: _Node, special: _Node) -> bool:
    pattern = r"\d+".join(map(re.escape, general.piece.split(_SLOT)))
    return re.fullmatch(pattern, special.piece.replace(_SLOT, "0")) is not None


def _spelled(placed: list[_Node], *, with_exceptions: bool) -> list[tuple[str, str]]:
    exceptions: dict[_Node, list[_Node]] = {}
    if with_exceptions:
        ruled = set(placed)
        over = {node: above for node in placed if (above := _ruled_above(node, ruled)) is not None}
        inner = set(over.values())
        for node, above in over.items():
            if _keeps(node) and node not in inner and not _keeps(above):
                exceptions.setdefault(above, []).append(node)
        exceptions = {node: kept for node, kept in exceptions.items() if len(kept) <= _MAX_EXCEPTIONS}
    left_out = {node for kept in exceptions.values() for node in kept}
    return [(_pattern(node, exceptions.get(node, [])), _replacement(node.rule or ())) for node in placed if node not in left_out]


def _ruled_above(node: _Node, ruled: set[_Node]) -> _Node | None:
    above = node.parent
    while above is not None and above not in ruled:
        above = above.parent
    return above


def _keeps(node: _Node) -> bool:
    """Whether the rule leaves names as they are."""
    return "".join(node.rule or ()) == _numbered(node.key, 0)


def _pattern(node: _Node, exceptions: list[_Node]) -> str:
    pattern = "^" + r"(\d+)".join(map(re.escape, node.key.split(_SLOT)))
    if exceptions:
        rest = (other.key[len(node.key) :] + ("\1" if other.is_name else "") for other in exceptions)
        alternatives = "|".join(r"\d+".join(map(re.escape, text.split(_SLOT))).replace("\1", "$") for text in rest)
        return f"{pattern}(?!{alternatives})"
    return pattern + ("$" if node.is_name else "")


def _replacement(effect: _Effect) -> str:
    return _REFERENCE.sub(lambda m: rf"\g<{int(m[1]) + 1}>", "".join(effect).replace("\\", "\\\\"))


def _numbered(text: str, first: int) -> str:
    """A masked text with each slot numbered, from ``first``."""
    texts = text.split(_SLOT)
    return texts[0] + "".join(f"{_SLOT}{first + i}{_SLOT}{rest}" for i, rest in enumerate(texts[1:]))
