"""The two sides of an audit in words, and what a person would state of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.report._words import count, plural

if TYPE_CHECKING:
    from ckptaudit.graph import LayerGraph
    from ckptaudit.pipeline import Audit

_FACTS = (
    ("backbone", "backbone"),
    ("num_classes", "classes"),
    ("in_channels", "input channels"),
    ("aux_head", "aux head"),
    ("decoder", "decoder"),
    ("atrous_branches", "atrous branches"),
    ("batch_norm_layers", "BatchNorm layers"),
    ("dtype", "dtype"),
)
#: Shown only where both sides tell it and differ.
_IF_DIFFERENT = frozenset({"atrous_branches"})
_SOURCES = {"file": "Python file", "factory": "Python module", "object": "live object"}


def size_in_words(graph: LayerGraph) -> str:
    """``362 tensors, 39.6 M parameters``."""
    return f"{plural(len(graph), 'tensor')}, {count(graph.parameters)} parameters"


def file_in_words(audit: Audit) -> str:
    """Format, branch and size of the file."""
    branch = audit.checkpoint.branch.name
    return f"{audit.checkpoint.format}{f', branch `{branch}`' if branch else ''} · {size_in_words(audit.checkpoint.graph)}"


def model_in_words(audit: Audit) -> str:
    """Where the model is from, how it came about, and its size."""
    model = audit.model
    how = {"live": ", built live", "file": ""}.get(model.provenance, f", from the {model.provenance}")
    version = f" {model.library_version}" if model.library_version else ""
    return f"{_SOURCES.get(model.source, model.source)}{version}{how} · {size_in_words(model.graph)}"


def tensors_covered(audit: Audit) -> str:
    """``300 of 302 tensors, 60 derived aside``: buffers that the model sets itself are counted nowhere but in its size."""
    done, counted = audit.coverage.tensors
    derived = len(audit.model.graph) - counted
    return f"{done:,} of {plural(counted, 'tensor')}{f', {derived:,} derived aside' if derived else ''}"


def fact_rows(audit: Audit) -> list[tuple[str, str, str, bool]]:
    """Label, the file's fact, the model's, and whether both are known and differ; facts that neither side has are left out."""
    old, new = (facts.to_json() for facts in audit.facts)
    nothing = (None, False, 0)
    return [
        (label, _fact(old[key]), _fact(new[key]), old[key] != new[key] and old[key] is not None and new[key] is not None)
        for key, label in _FACTS
        if (old[key] not in nothing or new[key] not in nothing)
        and not (key in _IF_DIFFERENT and (None in (old[key], new[key]) or old[key] == new[key]))
    ]


def _fact(value: object) -> str:
    return {None: "?", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)
