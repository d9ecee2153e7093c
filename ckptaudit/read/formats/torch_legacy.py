"""Torch's format before 1.6: a magic number, a protocol version, system facts, the object and the storage keys, one pickle each; then the storages."""

from __future__ import annotations

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.checkpoint import Checkpoint
from ckptaudit.read.pickled import checkpoint_of
from ckptaudit.read.pickles import Machine, Refusals
from ckptaudit.read.source import Source
from ckptaudit.read.stored import Storage
from ckptaudit.read.torch_objects import LEGACY_MAGIC, StorageRef, StorageTable, TensorReader, is_allowed

ORDER = 20
NAME = "torch-legacy"

_PROTOCOL = 1001


def recognise(source: Source) -> bool:
    """Whether the first pickle holds torch's magic number, in binary or in digits."""
    return LEGACY_MAGIC.to_bytes(10, "little") in source.head[:40] or str(LEGACY_MAGIC).encode() in source.head[:40]


def read(source: Source) -> Checkpoint:
    """Run the five pickles, and step from storage to storage by their sizes."""
    path, data, size = source.path, source.data, source.size
    refusals, storages = Refusals(), StorageTable()
    machine = Machine(data, path, refusals, allowed=is_allowed, persistent=storages)
    with refusals.told_on_error():
        magic = machine.run(0, size, "the magic number")
        protocol = machine.run(machine.position, size, "the protocol version")
        machine.run(machine.position, size, "the system facts")
        value = machine.run(machine.position, size, "the object")
        keys = machine.run(machine.position, size, "the list of storages")
        if magic != LEGACY_MAGIC or protocol != _PROTOCOL:
            raise CorruptCheckpointError(path, "begins like a torch file, but its magic number or protocol version is another")
        located, end = _storages(source, keys, storages, machine.position)

        def locate(ref: StorageRef) -> Storage:
            if ref.key not in located:
                raise CorruptCheckpointError(path, f"storage {ref.key!r} is missing from the file's list of storages")
            return located[ref.key]

        remarks = [f"{size - end:,} bytes follow the last storage"] if end < size else []
        tensors = TensorReader(path, locate, inline=True)
        return checkpoint_of(value, path, NAME, tensors, refusals, size, remarks)


def _storages(source: Source, keys: object, table: StorageTable, position: int) -> tuple[dict[str, Storage], int]:
    """Where each storage lies, and where the last one ends."""
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise CorruptCheckpointError(source.path, "its list of storages is none")
    located: dict[str, Storage] = {}
    # The sizes are declared in the object, so how long a truncated file should have been is known.
    declared = sum(ref.nbytes + 8 for ref in table.declared.values())
    for key in map(str, keys):
        ref = table.declared.get(key)
        if ref is None or key in located:
            raise CorruptCheckpointError(source.path, f"its list of storages names {key!r}, which {'is listed twice' if ref else 'no tensor uses'}")
        begin = position + 8
        if begin > source.size:
            raise _truncated(source, position, declared, located)
        elements = int.from_bytes(source.data[position:begin], "little", signed=True)
        if elements != ref.elements:
            raise CorruptCheckpointError(source.path, f"storage {key!r} is declared with {ref.elements:,} elements and stored with {elements:,}")
        position = begin + ref.nbytes
        if position > source.size:
            raise _truncated(source, begin - 8, declared, located)
        located[key] = Storage(key, source.path, begin, ref.nbytes)
    return located, position


def _truncated(source: Source, position: int, declared: int, located: dict[str, Storage]) -> CorruptCheckpointError:
    whole = position + declared - sum(storage.nbytes + 8 for storage in located.values())
    return CorruptCheckpointError(source.path, f"a truncated torch file: {source.size:,} of {whole:,} bytes")
