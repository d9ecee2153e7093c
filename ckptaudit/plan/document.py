"""The plan as a file: YAML that people read, review and edit, and that is read back strictly.

What it holds, from the top: the two sides, the rename rules, the steps, what is dropped, what keeps its initial value. Steps that the
rules carry out are listed by name, folded, under what they have in common; every other step stands by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ckptaudit._version import __version__
from ckptaudit.align.ops import Op, op_from_json
from ckptaudit.align.pairs import Grade
from ckptaudit.errors import PlanError
from ckptaudit.lazily import compiled_when_used
from ckptaudit.plan.fingerprint import Side
from ckptaudit.plan.folding import fold_in_order, unfold
from ckptaudit.plan.plan import Plan, Step, changed_steps
from ckptaudit.plan.rename_rules import RenameRule, Renaming

if TYPE_CHECKING:
    import yaml

_T = TypeVar("_T")

SCHEMA = "ckptaudit.plan/1"

#: Larger files are no plans: a hundred thousand tensors, each with a step of its own, take half of this.
MAX_BYTES = 64 << 20
_MAX_NAMES = 2_000_000
_MAX_DEPTH = 20
#: Longest line that a step is written in.
_LINE = 140
_GRADES = ("decided", "ordered", "ambiguous")
_FINGERPRINT = compiled_when_used(r"sha256:[0-9a-f]{64}")
#: Text that YAML reads as itself when it stands without quotes.
_PLAIN = compiled_when_used(r"[A-Za-z_/][\w./{}\\-]*(?: [\w./()'×,-]+)*", re.ASCII)
_NOT_PLAIN = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def plan_to_text(plan: Plan) -> str:
    """The plan as YAML."""
    return "\n".join(_document(plan)) + "\n"


def _document(plan: Plan) -> Iterator[str]:
    sure = sum(step.sure for step in plan.steps)
    renamed = sum(old != new for old, new in plan.renames.items())
    yield f"# How to restore a checkpoint into a model; written by ckptaudit {__version__}, meant to be read and edited."
    yield "# `ckptaudit apply` carries it out. docs/plan.md says what may stand here."
    yield f"schema: {SCHEMA}"
    for key, side in (("source", plan.source), ("target", plan.target)):
        if side is not None:
            yield f"{key}:"
            yield f"  fingerprint: {side.fingerprint}"
            if side.name:
                yield f"  name: {_scalar(side.name)}"
            if side.branch:
                yield f"  branch: {_scalar(side.branch)}"
            if side.sets:
                yield f"  sets: {side.sets}"
    yield f"complete: {'true' if plan.complete else 'false'}"
    yield "summary:  # for reading only"
    yield f"  set: {len(plan.steps)}  # renamed: {renamed}, changed: {len(list(changed_steps(plan)))}, not sure: {len(plan.steps) - sure}"
    yield f"  dropped: {len(plan.dropped)}"
    yield f"  initial: {len(plan.initial)}"
    if plan.rules:
        yield ""
        yield "# The first rule that matches a name counts; without one a name stays as it is."
        yield "rules:"
        for rule in plan.rules:
            yield f"  - {{pattern: {_scalar(rule.pattern, quote=True)}, replacement: {_scalar(rule.replacement, quote=True)}}}"
    yield ""
    yield "steps:" if plan.steps else "steps: []"
    # What has to be decided, and could be decided otherwise, stands by itself.
    ruled = {step.target for step in plan.ruled if step.runner_up is None or (step.sure and len(step.runner_up) == 1)}
    for (by_rule, belief, rivals), group in groupby(
        plan.steps, lambda step: (step.target in ruled, _belief(step), step.runner_up is not None)
    ):
        steps = list(group)
        if by_rule:
            patterns = fold_in_order(step.sources[0] for step in steps)
            others = fold_in_order(name for step in steps for name in step.runner_up or ())
            rest = (*belief, f"runner_up: {_flow(others)}") if rivals else belief
            line = _in_one_line(f"names: {_flow(patterns)}", *rest)
            yield from [line] if line else ["  - names:", *(f"      - {_scalar(pattern)}" for pattern in patterns), *_indented(rest)]
            continue
        for step in steps:
            source = _flow(step.sources) if len(step.sources) > 1 else _inline(step.sources[0])
            ops = (f"ops: [{', '.join(map(_op, step.ops))}]",) if step.ops else ()
            other = (f"runner_up: {_flow(step.runner_up)}",) if step.runner_up is not None else ()
            entries = (f"to: {_inline(step.target)}", f"from: {source}", *ops, *belief, *other)
            line = _in_one_line(*entries)
            yield from [line] if line else _indented(entries, "  - ")
    for title, comment, names in (
        ("dropped", "tensors of the file that are not used", plan.dropped),
        ("initial", "tensors of the model that keep their initial value", plan.initial),
    ):
        if names:
            yield ""
            yield f"{title}:  # {comment}"
            yield from (f"  - {_scalar(pattern)}" for pattern in fold_in_order(names))


def _belief(step: Step) -> tuple[str, ...]:
    """How sure the step is, and why: equal for neighbours that share an entry."""
    return (f"grade: {step.grade}", f"confidence: {_number(step.confidence)}", f"evidence: {_flow(step.evidence)}")


def _in_one_line(*entries: str) -> str:
    """A step as one line, or ``""`` where that is too long to be read: most steps of a plan are alike, and are compared line by line."""
    line = f"  - {{{', '.join(entries)}}}"
    return line if len(line) <= _LINE else ""


def _indented(entries: Iterable[str], first: str = "    ") -> list[str]:
    """A step, or the rest of one, with an entry on each line."""
    return [f"{'    ' if number else first}{entry}" for number, entry in enumerate(entries)]


def _op(op: Op) -> str:
    return "{" + ", ".join([f"op: {op.name}", *(f"{name}: {_value(value)}" for name, value in op.params.items())]) + "}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return _number(value) if isinstance(value, float) else _scalar(str(value)) if isinstance(value, str) else str(value)


def _number(value: float) -> str:
    """A float as YAML 1.1 reads one: with a dot before the exponent."""
    text = repr(float(value))
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _flow(values: Iterable[str]) -> str:
    return "[" + ", ".join(map(_inline, values)) + "]"


def _inline(text: str) -> str:
    """Text where commas and braces belong to YAML."""
    return _scalar(text, quote=any(mark in text for mark in ",{}[]"))


def _scalar(text: str, *, quote: bool = False) -> str:
    """Text as YAML that reads back as the same text."""
    if not quote and _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN:
        return text
    if text.isascii() and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise PlanError(f"the name {text[:200]!r} holds half a surrogate pair, which YAML has no spelling for")
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if 0x20 <= code < 0x7F or character.isalnum():
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan: see :meth:`Plan.load`."""
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"{name}: {reason.lower()}") from None
    try:
        if len(data) > MAX_BYTES:
            raise PlanError(f"larger than {MAX_BYTES >> 20} MiB, and so no plan")
        return _Reader(_parse(data)).plan()
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from None


def _parse(data: bytes) -> object:
    """The values of a YAML document of plain collections: no tags of its own, no aliases, no key twice."""
    import yaml

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PlanError("no text, and so no plan") from None
    kind = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, kind))
        loader = kind(text)
        try:
            node = loader.get_single_node()
            _check_keys(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise PlanError(f"{where}no YAML ({getattr(error, 'problem', None) or 'it cannot be read'})") from None
    except (RecursionError, ValueError, OverflowError):
        raise PlanError("no YAML that a plan could be") from None


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Refuse what the loader itself must not meet: nesting that would overflow its stack, aliases that multiply."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise PlanError(f"{_line(event)}a plan has no aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise PlanError(f"{_line(event)}nested too deep to be a plan")


def _line(marked: yaml.Event | yaml.Node) -> str:
    return f"line {marked.start_mark.line + 1}: " if marked.start_mark is not None else ""


def _check_keys(root: yaml.Node | None) -> None:
    """Refuse a key that stands twice; YAML's loader would silently take the last."""
    import yaml

    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen if isinstance(key, yaml.ScalarNode) else True:
                    raise PlanError(f"{_line(key)}a key that stands twice, or is no text")
                seen.add(key.value)
            stack += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value


class _Reader:
    """Values of a document → the plan; every complaint names its place."""

    def __init__(self, document: object) -> None:
        self.document = document
        self.names = 0

    def plan(self) -> Plan:
        if not isinstance(self.document, dict) or "schema" not in self.document:
            raise PlanError(f"no plan: it does not begin with 'schema: {SCHEMA}'")
        if self.document["schema"] != SCHEMA:
            raise PlanError(f"a plan of the schema {str(self.document['schema'])[:50]!r}; this version reads {SCHEMA}")
        known = ("schema", "source", "target", "complete", "summary", "rules", "steps", "dropped", "initial")
        document = self._mapping("the plan", self.document, known, required=("complete", "steps"))
        rules = tuple(self._each("rules", document.get("rules"), self._rule))
        renaming = Renaming(rules)
        steps = tuple(step for found in self._each("steps", document["steps"], lambda w, v: self._steps(w, v, renaming)) for step in found)
        plan = Plan(
            steps=steps,
            dropped=tuple(self._patterns("dropped", document.get("dropped"))),
            initial=tuple(self._patterns("initial", document.get("initial"))),
            complete=self._typed("complete", document["complete"], bool),
            rules=rules,
            source=self._side("source", document.get("source")),
            target=self._side("target", document.get("target")),
        )
        _check_targets(plan)
        _check_rules(plan, renaming)
        return plan

    def _side(self, where: str, value: object) -> Side | None:
        if value is None:
            return None
        given = self._mapping(where, value, ("fingerprint", "name", "branch", "sets"), required=("fingerprint",))
        side = Side(**{key: self._typed(f"{where}.{key}", text, str) for key, text in given.items()})
        for key, print_ in (("fingerprint", side.fingerprint), ("sets", side.sets)):
            if not _FINGERPRINT.fullmatch(print_) and key in given:
                raise PlanError(f"{where}.{key}: not 'sha256:' and 64 hexadecimal digits")
        return side

    def _rule(self, where: str, value: object) -> RenameRule:
        given = self._mapping(where, value, ("pattern", "replacement"), required=("pattern", "replacement"))
        pattern = self._typed(f"{where}.pattern", given["pattern"], str)
        rule = RenameRule(pattern, self._typed(f"{where}.replacement", given["replacement"], str))
        if not rule.well_formed:
            raise PlanError(
                f"{where}: a rule begins with '^' and holds literal text (dots as '\\.'), '(\\d+)', and at its end '(?!…)' or '$'; "
                "its replacement holds text and '\\g<1>'"
            )
        return rule

    def _steps(self, where: str, value: object, renaming: Renaming) -> list[Step]:
        belief = ("grade", "confidence", "evidence")
        if isinstance(value, dict) and "names" in value:
            given = self._mapping(where, value, ("names", *belief, "runner_up"), required=("names",))
            names = self._patterns(f"{where}.names", given["names"])
            rivals = self._patterns(f"{where}.runner_up", given.get("runner_up"))
            if rivals and len(rivals) != len(names):
                raise PlanError(f"{where}.runner_up: {len(rivals)} names beside the {len(names)} of the step")
            others: list[tuple[str] | None] = [(rival,) for rival in rivals] if rivals else [None] * len(names)
            return [
                Step(renaming(name), (name,), (), *self._belief(where, given), other) for name, other in zip(names, others, strict=True)
            ]
        given = self._mapping(where, value, ("to", "from", "ops", *belief, "runner_up"), required=("to", "from"))
        sources = given["from"] if isinstance(given["from"], list) else [given["from"]]
        if not sources:
            raise PlanError(f"{where}.from: names at least one tensor of the file")
        runner_up = given.get("runner_up")
        return [
            Step(
                self._typed(f"{where}.to", given["to"], str),
                tuple(self._each(f"{where}.from", sources, self._string)),
                tuple(self._each(f"{where}.ops", given.get("ops"), self._op)),
                *self._belief(where, given),
                None if runner_up is None else tuple(self._each(f"{where}.runner_up", runner_up, self._string)),
            )
        ]

    def _belief(self, where: str, given: Mapping[str, Any]) -> tuple[Grade, float, tuple[str, ...]]:
        # Who adds a step by hand is sure of it.
        grade = given.get("grade", "decided")
        if grade not in _GRADES:
            raise PlanError(f"{where}.grade: one of {', '.join(_GRADES)}")
        confidence = given.get("confidence", 1.0)
        if type(confidence) not in (int, float) or not 0 <= confidence <= 1:
            raise PlanError(f"{where}.confidence: a number from 0 to 1")
        return cast("Grade", grade), float(confidence), tuple(self._each(f"{where}.evidence", given.get("evidence"), self._string))

    def _op(self, where: str, value: object) -> Op:
        try:
            return op_from_json(value)
        except PlanError as error:
            raise PlanError(f"{where}: {error}") from None

    def _patterns(self, where: str, value: object) -> list[str]:
        found: list[str] = []
        for pattern in self._each(where, value, self._string):
            try:
                names = unfold(pattern, _MAX_NAMES - self.names)
            except PlanError as error:
                raise PlanError(f"{where}: {error}") from None
            self.names += len(names)
            found += names
        return found

    def _string(self, where: str, value: object) -> str:
        return str(self._typed(where, value, str))

    def _each(self, where: str, value: object, read: Callable[[str, object], _T]) -> Iterator[_T]:
        if value is None:
            return
        if not isinstance(value, list):
            raise PlanError(f"{where}: a list is wanted")
        for i, item in enumerate(value):
            yield read(f"{where}[{i}]", item)

    def _mapping(self, where: str, value: object, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise PlanError(f"{where}: a mapping is wanted")
        if unknown := [key for key in value if key not in known]:
            raise PlanError(f"{where}: there is no key {str(unknown[0])[:100]!r}; there are {', '.join(known)}")
        if missing := [key for key in required if key not in value]:
            raise PlanError(f"{where}: the key {missing[0]!r} is missing")
        return value

    def _typed(self, where: str, value: object, kind: type[Any]) -> Any:
        if type(value) is not kind:
            words = {str: "text (put it in quotes)", bool: "true or false"}[kind]
            raise PlanError(f"{where}: {words} is wanted, not {str(value)[:50]!r}")
        return value


def _check_targets(plan: Plan) -> None:
    """No tensor of the model is set twice, or both set and left; no tensor of the file is both used and dropped."""
    seen: set[str] = set()
    for step in plan.steps:
        if step.target in seen:
            raise PlanError(f"steps: two of them set {step.target!r}")
        seen.add(step.target)
    for name in plan.initial:
        if name in seen:
            raise PlanError(f"initial: {name!r} is set by a step, too")
    used = {name for step in plan.steps for name in step.sources}
    for name in plan.dropped:
        if name in used:
            raise PlanError(f"dropped: {name!r} is used by a step, too")


def _check_rules(plan: Plan, renaming: Renaming) -> None:
    """Refuse rules that rename a tensor otherwise than its step: who edits them would see the step carried out instead.

    Steps that rules carry out and that stand by themselves have a runner-up when they are written. One that was decided by hand has
    none, or takes it, and counts before the rules. A tensor that is used twice follows the rules once.
    """
    plain = {(step.sources[0], step.target) for step in plan.steps if len(step.sources) == 1 and not step.ops}
    for step in plan.steps:
        name = step.sources[0]
        if (name, step.target) not in plain or step.runner_up is None or name in step.runner_up:
            continue
        renamed = renaming(name)
        if renamed not in (name, step.target) and (name, renamed) not in plain:
            raise PlanError(
                f"rules and steps contradict each other: the rules rename {name!r} to {renamed!r}, its step to {step.target!r}; "
                "make them say the same, or take `runner_up` out of the step where that is right"
            )
