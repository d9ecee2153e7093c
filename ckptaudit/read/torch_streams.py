"""Torch's legacy stream: five pickles, then the storages.

It is a file of its own, and also how ``pickle.dump`` spells a storage within another pickle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.pickles import ByteSpan, Instance, Machine, Refusals
from ckptaudit.read.stored import Storage
from ckptaudit.read.torch_objects import LEGACY_MAGIC, StorageRef, StorageTable, is_allowed
from ckptaudit.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROTOCOL = 1001


def read_legacy(machine: Machine, table: StorageTable, start: int, end: int, where: str = "") -> tuple[Any, dict[str, Storage]]:
    """Run the five pickles between ``start`` and ``end``, and step from storage to storage by their sizes.

    ``where`` is added to what messages call the pickles.

    Returns the object and where each storage lies; ``machine.position`` is behind the last one.

    Raises
    ------
    CorruptCheckpointError
        It is truncated, or its sizes contradict each other.
    """
    where = where and f" {where}"
    magic = machine.run(start, end, f"the magic number{where}")
    protocol = machine.run(machine.position, end, f"the protocol version{where}")
    machine.run(machine.position, end, f"the system facts{where}")
    value = machine.run(machine.position, end, f"the object{where}")
    keys = machine.run(machine.position, end, f"the list of storages{where}")
    if magic != LEGACY_MAGIC or protocol != _PROTOCOL:
        raise CorruptCheckpointError(machine.path, "begins like a torch file, but its magic number or protocol version is another")
    located, machine.position = _storages(machine, keys, table, end)
    return value, located


def nested_storages(data: Any, path: Path) -> Callable[[ByteSpan], tuple[StorageRef, Storage]]:
    """A reader of storages that lie, as legacy streams of their own, within the pickle in ``data``.

    What they name was recorded when the pickle was run: see :mod:`ckptaudit.read.torch_nested`.
    """

    def read(span: ByteSpan) -> tuple[StorageRef, Storage]:
        table = StorageTable()
        machine = Machine(data, path, Refusals(), allowed=is_allowed, persistent=table, size=len(data))
        value, located = read_legacy(machine, table, span.start, span.start + span.nbytes)
        if isinstance(value, Instance) and isinstance(value.kwargs, dict):
            value = value.kwargs.get("wrap_storage")
        if not isinstance(value, StorageRef) or value.key not in located:
            raise CorruptCheckpointError(path, "holds bytes that should be a storage, and are none")
        # Keys are addresses of the process that saved; within the file only the place is unique.
        key = f"nested-{span.start}"
        return replace(value, key=key), replace(located[value.key], key=key)

    return read


def _storages(machine: Machine, keys: object, table: StorageTable, size: int) -> tuple[dict[str, Storage], int]:
    """Where each storage lies, and where the last one ends."""
    path, position = machine.path, machine.position
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise CorruptCheckpointError(path, "its list of storages is none")
    located: dict[str, Storage] = {}
    declared = sum(ref.nbytes + 8 for ref in table.declared.values())
    for key in map(str, keys):
        ref = table.declared.get(key)
        if ref is None or key in located:
            raise CorruptCheckpointError(
                path, f"its list of storages names {key!r}, which {'is listed twice' if ref else 'no tensor uses'}"
            )
        begin = position + 8
        if begin > size:
            raise _truncated(path, size, position, declared, located)
        elements = int.from_bytes(machine.data[position:begin], "little", signed=True)
        if elements != ref.elements:
            raise CorruptCheckpointError(path, f"storage {key!r} is declared with {ref.elements:,} elements and stored with {elements:,}")
        position = begin + ref.nbytes
        if position > size:
            raise _truncated(path, size, begin - 8, declared, located)
        located[key] = Storage(key, path, begin, ref.nbytes)
    return located, position


def _truncated(path: Path, size: int, position: int, declared: int, located: dict[str, Storage]) -> CorruptCheckpointError:
    # The sizes are declared in the object, so how long a truncated file should have been is known.
    whole = position + declared - sum(storage.nbytes + 8 for storage in located.values())
    return CorruptCheckpointError(path, f"a truncated torch file: {size:,} of {whole:,} bytes")
