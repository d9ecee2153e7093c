"""``ckptaudit cache``: what was built before, and is kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptaudit.cli._output import emit

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Show or clear the models that were built before.")
@click.option("--clear", is_flag=True, help="Delete every entry.")
def cache(clear: bool) -> None:
    """Show where the specs of models that were built before are kept, how many there are, and how large they are.

    CKPTAUDIT_CACHE_DIR puts them elsewhere; CKPTAUDIT_NO_CACHE=1 neither reads nor writes any.
    """
    from ckptaudit.arch import cache as specs

    where = specs.folder() or "nowhere: there is no home folder"
    if clear:
        emit(f"{_entries(specs.clear())} deleted from {where}\n")
        return
    found = specs.entries()
    emit(f"{where}\n{_entries(len(found))}, {sum(map(_size, found)) / 1e6:.1f} MB\n")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number:,} entries"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted meanwhile
        return 0
