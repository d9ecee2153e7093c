"""Both layer graphs and the pairs between them as compact JSON for the page's script.

A graph is a tree of nodes in columns: ``parent`` (always an earlier node, or -1), ``segment``, ``kind`` and ``shape`` (indices of
``strings``, or -1) and ``state``. A tensor's full name is its segments from the top, put together: they hold their separators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf, parent
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.graph import LayerGraph
    from ckptaudit.pipeline import Audit
    from ckptaudit.plan import Step

#: What becomes of a tensor, from harmless to worst; ``page.js`` and ``page.css`` know the same numbers. 0 is a module.
DERIVED, SAME, RENAMED, CHANGED, UNSURE, LEFT, MISMATCHED = range(1, 8)


def graph_data(audit: Audit) -> str:
    """The JSON text, fit to stand inside a ``script`` element."""
    strings = _Strings()
    file, model = audit.checkpoint.graph, audit.model.graph
    pairs = [(step.target, source, _state(step), _in_words(step)) for step in audit.plan.steps for source in step.sources]
    pairs += [(target, source, MISMATCHED, "the shapes differ") for target, source in audit.mismatched.items()]
    of_file: dict[str, int] = {}
    of_model: dict[str, int] = {name: DERIVED for name in model.tensors if leaf(name) in DERIVED_BUFFERS}
    for target, source, state, _ in pairs:
        of_file[source] = max(state, of_file.get(source, 0))
        of_model[target] = state
    (file_nodes, file_side), (model_nodes, model_side) = _side(file, of_file, strings), _side(model, of_model, strings)
    value = {
        "file": file_side,
        "model": model_side,
        "links": {
            "from": [file_nodes[source] for _, source, _, _ in pairs],
            "to": [model_nodes[target] for target, _, _, _ in pairs],
            "state": [state for _, _, state, _ in pairs],
            "how": [strings[how] for _, _, _, how in pairs],
        },
        "strings": strings.texts,
    }
    # ASCII only, and no "<": neither the end of the script element nor a line separator can come from a name.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


class _Strings:
    """Texts, each kept once; ``strings[text]`` is its index."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._known: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self.texts)
            self.texts.append(printable(text))
        return self._known[text]


def _side(graph: LayerGraph, states: Mapping[str, int], strings: _Strings) -> tuple[dict[str, int], dict[str, Any]]:
    """The node of each path, and the columns."""
    nodes: dict[str, int] = {}
    columns: dict[str, list[int]] = {name: [] for name in ("parent", "segment", "kind", "shape", "state")}

    def add(path: str, start: int, above: int) -> int:
        layer = graph.by_path.get(path)
        kind = strings[layer.kind] if layer else -1
        for name, value in (("parent", above), ("segment", strings[path[start:]]), ("kind", kind), ("shape", -1), ("state", 0)):
            columns[name].append(value)
        nodes[path] = len(nodes)
        return nodes[path]

    for name, spec in graph.tensors.items():
        # Up to the nearest module that is known, then down again: for most tensors that is their own module.
        missing, above = [name], -1
        while (path := parent(missing[-1])) and (above := nodes.get(path, -1)) < 0:
            missing.append(path)
        for path in reversed(missing):
            above = nodes[path] if path in nodes else add(path, len(parent(path)), above)
        columns["shape"][above] = strings[f"{'×'.join(map(str, spec.shape)) or 'scalar'} {spec.dtype}"]
        columns["state"][above] = states.get(name, LEFT)
    return nodes, columns


def _state(step: Step) -> int:
    if not step.sure:
        return UNSURE
    if step.ops:
        return CHANGED
    return SAME if step.sources == (step.target,) else RENAMED


def _in_words(step: Step) -> str:
    """What is done, how sure that is, and why."""
    does = ", ".join(" ".join([op.name, *(f"{key}={value}" for key, value in op.params.items())]) for op in step.ops)
    return "; ".join(filter(None, [does, step.grade, *step.evidence]))
