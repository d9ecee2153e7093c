"""What binds a plan to the two sides that it was made for: a hash of their names, shapes and dtypes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from ckptaudit.graph import TensorSpec
from ckptaudit.records import dataclass


@dataclass(frozen=True, slots=True)
class Side:
    """The checkpoint, or the model, that a plan was made for.

    Attributes
    ----------
    fingerprint:
        See :func:`fingerprint`.
    name:
        What it was called: a file's name, an architecture. For people only.
    branch:
        Which part of the file, where it has several.
    sets:
        Of the model's side: the :func:`layout` of the tensors that the plan sets, by which an edited plan can be told; ``""`` where it is
        not known.
    """

    fingerprint: str
    name: str = ""
    branch: str = ""
    sets: str = ""


def fingerprint(tensors: Iterable[TensorSpec]) -> str:
    """``sha256:`` and the hash over name, shape and dtype of every tensor, sorted by name; values do not count."""
    rows = sorted((spec.name, list(spec.shape), spec.dtype) for spec in tensors)
    return digest(rows)


def layout(shapes: Iterable[tuple[str, Sequence[int]]]) -> str:
    """``sha256:`` and the hash over name and shape of tensors, sorted by name."""
    return digest(sorted((name, list(shape)) for name, shape in shapes))


def digest(value: object) -> str:
    """``sha256:`` and the hash of JSON values in their one spelling."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"
