"""A plan carried out into a torch file: a zip with one pickle of nothing but tensors, as ``torch.load(weights_only=True)`` reads it.

Written without torch. The layout is that of ``torch.save``: stored records under one folder, ``data.pkl`` first, each tensor's bytes in
``data/<number>`` at a multiple of 64 bytes, so that they can be mapped. Where the file comes from stands in a record of its own,
``ckptaudit.json``, which torch does not look at.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.errors import OutputError, PlanError
from ckptaudit.files import is_stream, new_file
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.writing.entries import Entry, entries_of, provenance
from ckptaudit.plan.writing.placing import Placed, write_placed
from ckptaudit.read.stored import contiguous_strides
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

#: Classes by which a pickle says of which dtype a storage is.
_STORAGES = MappingProxyType(
    {
        "float64": "DoubleStorage",
        "float32": "FloatStorage",
        "float16": "HalfStorage",
        "bfloat16": "BFloat16Storage",
        "complex64": "ComplexFloatStorage",
        "complex128": "ComplexDoubleStorage",
        "int64": "LongStorage",
        "int32": "IntStorage",
        "int16": "ShortStorage",
        "int8": "CharStorage",
        "uint8": "ByteStorage",
        "bool": "BoolStorage",
    }
)
#: Younger dtypes have no class: their storage is of bytes, and the tensor says how to read them.
_UNTYPED = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "uint16", "uint32", "uint64")
_FOLDER, _ALIGNMENT = "archive", 64
_TIME = (1980, 1, 1, 0, 0, 0)


def write_torch_zip(
    plan: Plan, checkpoint: Checkpoint, output: str | os.PathLike[str], *, force: bool, progress: Callable[[int, int], None]
) -> int:
    """Write the file; gives its size. See :func:`ckptaudit.plan.writing.write_restored`."""
    entries = entries_of(plan, checkpoint, (*_STORAGES, *_UNTYPED), "a torch file")
    pickle = b"".join(_pickled(entries))
    total = sum(entry.nbytes for entry in entries)
    if is_stream(output):
        raise OutputError(f"{os.fspath(output)}: a torch file is not written in one go")
    with new_file(output, force=force) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            _write(archive, "data.pkl", pickle)
            _write(archive, "byteorder", b"little")
            records = list(_records(entries, archive.start_dir))
            done = 0
            for count in write_placed([Placed(record.entry, record.values, record.head) for record in records], checkpoint, file):
                done += count
                progress(done, total)
            if records:
                archive.infolist().extend(record.info for record in records)
                archive.start_dir = records[-1].end
            _write(archive, "ckptaudit.json", json.dumps(provenance(plan, checkpoint)).encode())
            _write(archive, "version", b"3\n")
        return file.tell()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_info(name, archive.start_dir, len(content)), content)


def _info(name: str, begin: int, nbytes: int) -> zipfile.ZipInfo:
    """A record that begins at this place of the file, its values at a multiple of 64 bytes."""
    info = zipfile.ZipInfo(f"{_FOLDER}/{name}", _TIME)
    info.header_offset, info.file_size, info.compress_size = begin, nbytes, nbytes
    info.CRC, info.external_attr = 0, 0o600 << 16
    info.extra = struct.pack("<2sH", b"FB", 0)
    padding = -(begin + len(info.FileHeader())) % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    return info


@dataclass(frozen=True, eq=False)
class _Record:
    """A tensor's record and where its values begin. It is written past :mod:`zipfile`, which can write but one at a time."""

    entry: Entry
    info: zipfile.ZipInfo
    values: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.values + self.entry.nbytes

    def head(self, check: int) -> bytes:
        """The header that stands before the values."""
        self.info.CRC = check
        return self.info.FileHeader()


def _records(entries: Iterable[Entry], begin: int) -> Iterator[_Record]:
    for number, entry in enumerate(entries):
        info = _info(f"data/{number}", begin, entry.nbytes)
        record = _Record(entry, info, begin + len(info.FileHeader()))
        yield record
        begin = record.end


def _pickled(entries: list[Entry]) -> Iterator[bytes]:
    """A dict of tensors in protocol 2, one opcode after the other."""
    yield b"\x80\x02}("
    for number, entry in enumerate(entries):
        yield _text(entry.step.target)
        untyped = entry.dtype in _UNTYPED
        yield _global("torch._utils", "_rebuild_tensor_v3" if untyped else "_rebuild_tensor_v2")
        storage = "UntypedStorage" if untyped else _STORAGES[entry.dtype]
        count = entry.nbytes if untyped else prod(entry.shape)
        yield b"((" + _text("storage") + _global("torch", "storage." + storage if untyped else storage)
        yield _text(str(number)) + _text("cpu") + _integer(count) + b"tQ"
        yield _integer(0) + _tuple(entry.shape) + _tuple(contiguous_strides(entry.shape)) + b"\x89"
        yield _global("collections", "OrderedDict") + b")R"
        yield (_global("torch", entry.dtype) if untyped else b"") + b"tR"
    yield b"u."


def _global(module: str, name: str) -> bytes:
    if name.startswith("storage."):
        module, name = f"{module}.storage", name.removeprefix("storage.")
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise PlanError("a name holds half a surrogate pair, which a torch file has no spelling for") from None
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
