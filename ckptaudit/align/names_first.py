"""Names first, since they are what the author meant; everything else for what they leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.align.by_name import align_by_name
from ckptaudit.garbage import collector_paused

if TYPE_CHECKING:
    from ckptaudit.align.pairs import Alignment
    from ckptaudit.graph import LayerGraph


def align(source: LayerGraph, target: LayerGraph) -> Alignment:
    """Find which tensor of ``target`` is which of ``source``.

    Parameters
    ----------
    source:
        What a checkpoint holds.
    target:
        What a freshly built model wants.

    Returns
    -------
    Alignment
        Pairs by name when names leave nothing open on one of the sides; otherwise by structure, and by name where structure
        has no opinion. Tensors whose names correspond and whose shapes differ stay ``mismatched`` unless structure is sure
        of another counterpart.
    """
    with collector_paused():
        named = align_by_name(source, target)
        if named.as_it_is and "keras" not in (source.framework, target.framework):  # names that Keras gave say little by themselves
            return named
        from ckptaudit.align.combine import align_beyond_names

        return align_beyond_names(source, target, named)
