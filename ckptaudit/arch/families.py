"""Which architectures a file could hold instead of the named one, the most likely first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def by_closeness(name: str, others: Iterable[str]) -> list[str]:
    """Order the relatives of ``name`` by how close their names are to it, those that begin with the same word first; without itself."""
    from difflib import SequenceMatcher

    stem = re.split(r"[_\d]", name)[0]

    def distance(other: str) -> tuple[bool, float, str]:
        return not other.startswith(stem), -SequenceMatcher(None, name, other).ratio(), other

    return sorted({other for other in others if other != name}, key=distance)
