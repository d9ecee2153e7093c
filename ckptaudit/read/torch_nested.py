"""Torch files within pickles: what ``torch.storage._load_from_bytes(b"…")`` would unpickle in its turn.

``pickle.dump`` of a tensor writes its storage so. Loading runs the pickles in those bytes whether or not any tensor uses what they give, so
they are looked through at the moment of the call, and what is no storage is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError
from ckptaudit.read.pickles import ByteSpan, Global, Instance, Machine, OldString, Refusals
from ckptaudit.read.torch_objects import LATIN, NESTED, StorageRef, StorageTable, is_allowed
from ckptaudit.read.torch_streams import read_legacy
from ckptaudit.read.zips import ZipDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Bytes within bytes within …; ``pickle.dump`` writes one level.
_MAX_NESTING = 4

#: Bytes that all nested zips and texts of one file may take in memory. Streams as ``pickle.dump`` writes them are read in place.
_MAX_COPIED = 64 << 20


_MAX_OBJECT = 1 << 20  # the pickle of one storage takes 200 bytes


def torch_machine(
    data: Any,
    path: Path,
    refusals: Refusals,
    storages: Callable[[Any], Any],
    size: int,
    allowed: Callable[[str], bool] = is_allowed,
) -> Machine:
    """A machine for torch's pickles that also looks through every torch file within them."""
    return _watched(data, path, refusals, storages, size, allowed, _Nested(refusals))


def _watched(
    data: Any, path: Path, refusals: Refusals, storages: Any, size: int, allowed: Callable[[str], bool], nested: _Nested
) -> Machine:
    return Machine(data, path, refusals, allowed=allowed, persistent=storages, size=size, watched=NESTED, watch=nested)


class _Nested:
    """Looks through the bytes of one file's calls, each piece of them once."""

    def __init__(self, refusals: Refusals, depth: int = 0, left: list[int] | None = None) -> None:
        self._refusals = refusals
        self._depth = depth
        self._left = [_MAX_COPIED] if left is None else left
        self._seen: dict[int, tuple[Any, bool]] = {}  # by identity, the value kept alive; recalling it is cheap, running it again is not

    def __call__(self, machine: Machine, args: tuple[Any, ...]) -> bool:
        """Whether ``args`` are the bytes of a storage."""
        if len(args) != 1 or self._depth >= _MAX_NESTING:
            return False
        value = args[0]
        if isinstance(value, Instance) and value.class_name == "_codecs.encode" and len(value.args) == 2 and value.args[1] in LATIN:
            value = value.args[0]  # how protocols 0 to 2 spell bytes
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, self._is_storage(machine, value))
        return self._seen[id(value)][1]

    def _is_storage(self, machine: Machine, value: Any) -> bool:
        at = f"within the bytes before byte {machine.position:,}"
        try:
            found = self._content(machine, value)
            if found is None:
                return False
            data, start, end = found
            if data[start : start + 4] == b"PK\x03\x04":
                return self._is_zip_of_storage(machine, data, start, end, at)
            table = StorageTable()
            stored, located = read_legacy(self._machine(machine, data, end - start, table), table, start, end, at)
        except (CheckpointError, UnicodeError):
            return False
        ref = storage_in(stored)
        return ref is not None and ref.key in located

    def _is_zip_of_storage(self, machine: Machine, data: Any, start: int, end: int, at: str) -> bool:
        self._left[0] -= end - start
        if self._left[0] < 0:
            return False
        archive = ZipDirectory.parse(machine.path, data[start:end], end - start)
        found = False
        # Whichever of them the loader would take, all are run.
        pickles = [member for name, member in archive.members.items() if name.lower().endswith(".pkl")]
        for member in pickles:
            self._left[0] -= member.size
            if self._left[0] < 0:
                return False
            content = archive.content(member, _MAX_OBJECT)
            table = StorageTable()
            stored = self._machine(machine, content, len(content), table).run(0, len(content), f"{member.name} {at}")
            ref = storage_in(stored)
            root = member.name[: -len("data.pkl")]
            payload = archive.find(f"{root}data/{ref.key}") if ref is not None else None
            found = ref is not None and payload is not None and payload.size >= ref.nbytes
        return found and len(pickles) == 1

    def _machine(self, outer: Machine, data: Any, size: int, table: StorageTable) -> Machine:
        nested = _Nested(self._refusals, self._depth + 1, self._left)
        return _watched(data, outer.path, self._refusals, table, size, is_allowed, nested)

    def _content(self, machine: Machine, value: Any) -> tuple[Any, int, int] | None:
        """A buffer, and from where to where in it the bytes lie that the loader would be given."""
        if isinstance(value, OldString):
            return (machine.data, value.start, value.start + value.nbytes) if value.start >= 0 else None
        if isinstance(value, ByteSpan) and not value.text:
            return machine.data, value.start, value.start + value.nbytes
        size = value.nbytes if isinstance(value, ByteSpan) else len(value) if isinstance(value, str) else -1
        self._left[0] -= max(size, 0)
        if size < 0 or self._left[0] < 0:
            return None
        text = str(machine.data[value.start : value.start + size], "utf-8", "surrogatepass") if isinstance(value, ByteSpan) else value
        content = text.encode("latin-1")
        return content, 0, len(content)


def storage_in(value: Any) -> StorageRef | None:
    """The storage that an unpickled object is, or that ``TypedStorage(wrap_storage=…)`` wraps."""
    if isinstance(value, Instance) and isinstance(value.factory, Global) and isinstance(value.kwargs, dict):
        value = value.kwargs.get("wrap_storage")
    return value if isinstance(value, StorageRef) else None
