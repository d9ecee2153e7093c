"""JSON, schemas ``ckptaudit.audit/1`` and ``ckptaudit.report/1``: what other programs rely on."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.pipeline import checkpoint_to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptaudit.graph import Layer
    from ckptaudit.pipeline import Audit
    from ckptaudit.read import Checkpoint
    from ckptaudit.report import Entry, Options

#: Items of a list that are laid out over several lines.
_LONG = 20


def render_audit(audit: Audit, options: Options) -> str:
    """The whole audit."""
    return dump(audit.to_json())


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """Several audits: title, whether it passed, the audit as ``render_audit`` gives it or null, and what was allowed and why."""
    return dump(
        {
            "schema": "ckptaudit.report/1",
            "tool": {"name": "ckptaudit", "version": __version__},
            "passed": all(entry.passed for entry in entries),
            "entries": [
                {
                    "title": entry.title,
                    "passed": entry.passed,
                    "summary": entry.summary,
                    "remark": entry.remark,
                    "error": entry.error or None,
                    "location": {"path": entry.location.path, "line": entry.location.line} if entry.location else None,
                    "audit": entry.audit.to_json() if entry.audit else None,
                    "allowed": [{"rule": finding.rule, "reason": finding.allowed} for finding in entry.allowed],
                }
                for entry in entries
            ],
        }
    )


def render_checkpoint(checkpoint: Checkpoint, options: Options) -> str:
    """The ``checkpoint`` object of an audit, with its branches and layers."""
    graph = checkpoint.graph
    head = dump(
        {
            "schema": "ckptaudit.show/1",
            "checkpoint": checkpoint_to_json(checkpoint),
            "branches": [
                {
                    "name": b.name,
                    "role": b.role,
                    "tensors": len(b.tensors),
                    "parameters": b.parameters,
                    "chosen": b.name == checkpoint.branch.name,
                }
                for b in checkpoint.branches
            ],
            "branch_reason": checkpoint.branch_reason,
            "remarks": list(checkpoint.remarks),
        }
    ).removesuffix("\n}\n")
    # Written layer by layer: as one value a million of them would take thirty times the header that they come from.
    write = _encoded if len(graph.layers) > _LONG else partial(_laid_out, margin="    ")
    layers = _safe(",\n".join(f"    {write(_layer(layer))}" for layer in graph.layers))
    listed = f"[\n{layers}\n  ]" if layers else "[]"
    tail = dump({"tied": [list(group) for group in graph.tied]}).removeprefix("{\n")
    return f'{head},\n  "layers": {listed},\n{tail}'


def _layer(layer: Layer) -> dict[str, Any]:
    tensors = {role: {"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for role, t in layer.tensors.items()}
    return {"path": layer.path, "kind": layer.kind, "tensors": tensors}


def dump(value: Any) -> str:
    """JSON that harms nobody who prints it or puts it into a page."""
    return _safe(_laid_out(value)) + "\n"


def _safe(text: str) -> str:
    # ASCII only: a name with an escape sequence or half a surrogate pair must not reach a terminal or break a consumer.
    # So must no markup and no command to a machine that runs jobs (``##[error]``): "<" and "#" stand only inside strings, where their
    # escapes mean the same.
    return text.replace("<", "\\u003c").replace("##", "#\\u0023")


_encoded = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def _laid_out(value: Any, margin: str = "") -> str:
    """Indented as people read it; each item of a long list on one line, which Python's encoder in C writes."""
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{_encoded(key)}: {_laid_out(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if isinstance(value, list | tuple) and len(value) > _LONG:
        return f"[\n{inner}{_one_a_line(value, inner)}\n{margin}]"
    if isinstance(value, list | tuple) and value:
        rows = [inner + _laid_out(item, inner) for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{margin}]"
    return _encoded(value)


def _one_a_line(items: Sequence[Any], margin: str) -> str:
    """The items of a list."""
    # A quotation mark within a string is escaped: a bare one stands between items, or, harmlessly, between those of an inner list.
    first = next(iter(items[0]), "") if isinstance(items[0], dict) else None
    begin = f"{{{_encoded(first)}" if first else '"' if isinstance(items[0], str) else None
    if begin is None:
        return f",\n{margin}".join(map(_encoded, items))
    end = "}" if first else '"'
    return _encoded(items)[1:-1].replace(f"{end}, {begin}", f"{end},\n{margin}{begin}")
