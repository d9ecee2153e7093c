"""HDF5: Keras' legacy layout, Keras 3's weights layout, or datasets that any other program wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source


_MAGIC = b"\x89HDF\r\n\x1a\n"
_MAX_USER_BLOCK = 1 << 24


def recognise(source: Source) -> bool:
    """Whether the signature stands at the start, or behind a user block. A zip may hold HDF5 at such a place by chance."""
    return source.head.startswith(_MAGIC) or (not source.is_zip and is_hdf5(source.data, source.size))


def is_hdf5(data: Any, size: int, start: int = 0) -> bool:
    """Whether the signature stands where libhdf5 looks for it."""
    return signature_at(data, size, start) >= 0


def signature_at(data: Any, size: int, start: int = 0) -> int:
    """Where, counted from ``start``, the signature stands: there, or behind a user block of 512, 1024, 2048 … bytes; -1 if nowhere."""
    block = 0
    while block + len(_MAGIC) <= size and block <= _MAX_USER_BLOCK:
        if data[start + block : start + block + len(_MAGIC)] == _MAGIC:
            return block
        block = block * 2 or 512
    return -1


def read(source: Source) -> Checkpoint:
    """Read names, shapes and places of all datasets, and what Keras notes beside them."""
    from ckptaudit.read.hdf5 import open_hdf5
    from ckptaudit.read.keras_legacy import holder_of, read_datasets, read_legacy
    from ckptaudit.read.keras_weights import is_weights, read_weights

    with open_hdf5(source) as file:
        holder = holder_of(file)
        if holder is not None:
            return read_legacy(file, holder, source.size)
        if is_weights(file):
            return read_weights(file, source.size)
        return read_datasets(file, source.size)
