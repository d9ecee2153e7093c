"""What an open checkpoint may be, by its tensors and by what its metadata say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.identification.matching import identify

if TYPE_CHECKING:
    from ckptaudit.identification.candidates import Identification
    from ckptaudit.read import Checkpoint

#: No name of an architecture is longer.
_MAX_NAME = 80


def identify_checkpoint(checkpoint: Checkpoint) -> Identification:
    """Rank the published architectures that a checkpoint may hold; no value is read."""
    from ckptaudit.align.by_topology.naming import named_by_nodes

    return identify(named_by_nodes(checkpoint.graph), _words(checkpoint.metadata))


def _words(value: Any) -> set[str]:
    """Every text among JSON values that may be a name."""
    if isinstance(value, str):
        return {value} if len(value) <= _MAX_NAME else set()
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return {word for item in inside for word in _words(item)}
