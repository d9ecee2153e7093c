"""Torch's format before 1.6: a magic number, a protocol version, system facts, the object and the storage keys; then the storages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source
    from ckptaudit.read.stored import Storage
    from ckptaudit.read.torch_objects import StorageRef

NAME = "torch-legacy"


def recognise(source: Source) -> bool:
    """Whether the first pickle holds torch's magic number, in binary or in digits."""
    from ckptaudit.read.torch_objects import LEGACY_MAGIC

    return LEGACY_MAGIC.to_bytes(10, "little") in source.head[:40] or str(LEGACY_MAGIC).encode() in source.head[:40]


def read(source: Source) -> Checkpoint:
    """Run the five pickles, and step from storage to storage by their sizes."""
    from ckptaudit.read.checkpoint import Remark
    from ckptaudit.read.pickled import checkpoint_of
    from ckptaudit.read.pickles import Refusals
    from ckptaudit.read.torch_nested import torch_machine
    from ckptaudit.read.torch_objects import StorageTable, TensorReader
    from ckptaudit.read.torch_streams import nested_storages, read_legacy

    path, data, size = source.path, source.data, source.size
    refusals, storages = Refusals(), StorageTable()
    machine = torch_machine(data, path, refusals, storages, source.size)
    with refusals.told_on_error():
        value, located = read_legacy(machine, storages, 0, size)
        end = machine.position

        def locate(ref: StorageRef) -> Storage:
            if ref.key not in located:
                raise CorruptCheckpointError(path, f"storage {ref.key!r} is missing from the file's list of storages")
            return located[ref.key]

        remarks = [Remark(f"{size - end:,} bytes follow the last storage", "unreferenced-bytes")] if end < size else []
        tensors = TensorReader(path, locate, inline=True, nested=nested_storages(data, path))
        return checkpoint_of(value, path, NAME, tensors, refusals, size, remarks)
