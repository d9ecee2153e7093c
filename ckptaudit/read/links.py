"""Whether a file that another one names really lies in the folder where it seems to lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def leaves(path: Path, folder: Path) -> bool:
    """Whether ``path``, which lies in ``folder`` by its name, is or goes through a symbolic link that leads out of it.

    The Hugging Face hub's cache is made of such links, from ``snapshots/<revision>/`` to ``blobs/`` of the same repository: these stay.
    """
    try:
        real, inside = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):
        return False  # links in a circle, which cannot be opened either
    if real.is_relative_to(inside):
        return False
    above = next((parent for parent in inside.parents if parent.name == "snapshots"), None)
    return above is None or real.parent != above.parent / "blobs"
