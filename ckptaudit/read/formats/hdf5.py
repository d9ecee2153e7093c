"""HDF5: Keras' legacy layout, Keras 3's weights layout, or datasets that any other program wrote."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.errors import NotACheckpointError
from ckptaudit.read.checkpoint import Branch, Checkpoint
from ckptaudit.read.hdf5 import MAGIC, Hdf5, is_hdf5, open_hdf5
from ckptaudit.read.keras_legacy import every_dataset, holder_of, read_legacy
from ckptaudit.read.keras_weights import is_weights, read_weights

if TYPE_CHECKING:
    from ckptaudit.read.source import Source

ORDER = 5
NAME = "hdf5"

_SUSPECT = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)


def recognise(source: Source) -> bool:
    """Whether the signature stands at the start, or behind a user block. A zip may hold HDF5 at such a place by chance."""
    return source.head.startswith(MAGIC) or (not source.is_zip and is_hdf5(source.data, source.size))


def read(source: Source) -> Checkpoint:
    """Read names, shapes and places of all datasets, and what Keras notes beside them."""
    with open_hdf5(source) as file:
        before = next((words for magic, words in _SUSPECT if source.head.startswith(magic)), "")
        if before:
            file.remark(f"its user block holds {before}, which was not looked into")
        holder = holder_of(file)
        if holder is not None:
            return read_legacy(file, holder, source.size)
        if is_weights(file):
            return read_weights(file, source.size)
        return _read_datasets(file, source.size)


def _read_datasets(file: Hdf5, nbytes: int) -> Checkpoint:
    tensors = {name: dataset.tensor for name, dataset in every_dataset(file).items()}
    if not tensors:
        raise NotACheckpointError(file.path, "an HDF5 file that holds no datasets")
    branch = Branch("", "model", MappingProxyType(tensors))
    reason = "every dataset of the file, which Keras did not write"
    return Checkpoint(file.path, NAME, "unknown", branch, reason, (branch,), MappingProxyType({}), (), nbytes, tuple(file.remarks))
