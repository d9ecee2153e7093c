"""A dense layer behind a flattened feature map: its columns stand in another order when the layouts of two libraries differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckptaudit.align.by_structure.reading import Side
from ckptaudit.align.pairs import Pair
from ckptaudit.records import replace

__all__ = ["undecided_where_flattened"]

_DOUBT = "flattened as height × width × channels on one side, perhaps as channels × height × width on the other"


def undecided_where_flattened(here: Side, there: Side, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Make those pairs ambiguous whose columns may be permuted between a channels-last and a channels-first library.

    Shapes are the same either way, and a model may also reorder the map before it flattens it: neither names nor shapes
    decide, only running both or comparing values.
    """
    if here.channels_last == there.channels_last:
        yield from pairs
        return
    behind = set(_behind_flattened(there))
    for pair in pairs:
        if pair.target in behind and pair.sure:
            yield replace(pair, grade="ambiguous", confidence=min(pair.confidence, 0.5), evidence=(*pair.evidence, _DOUBT))
        else:
            yield pair


def _behind_flattened(side: Side) -> Iterator[str]:
    """Names of the matrices that come right after a convolution and have several inputs for each of its channels."""
    weights = sorted((item for items in side.layers.values() for item in items if len(item.spec.shape) >= 2), key=lambda item: item.order)
    channels = 0
    for item in weights:
        if len(item.spec.shape) > 2:
            channels = item.shape[0] if item.shape else 0
            continue
        inputs = item.shape[-1] if len(item.shape) == 2 else 0
        if channels and inputs > channels and inputs % channels == 0:
            yield item.spec.name
        channels = 0
