"""HDF5 files through libhdf5, whatever they hold.

libhdf5 is trusting: a plain walk follows links into other files, waits for ever on a link to a FIFO, visits a group as often as it is
linked, and allocates what a header declares. So every name is looked up as a link first, every object is visited once, nothing is read
before its size is known, and libhdf5 is given a window on bytes of the file that is open already, never a name.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.read.hdf5 import MAX_LINKS, MAX_RANK, MAX_STRINGS, Content, Dataset, Group, Hdf5, Link, Locate
from ckptaudit.read.identity import identity_of
from ckptaudit.read.source import opened
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Most that one read of libhdf5's metadata may ask for, and most bytes of values that are unpacked for one tensor.
_MAX_METADATA_READ = 128 << 20
_MAX_UNPACKED = 4 << 30
#: What a heap of strings (a "global heap collection") begins with: signature and version; three bytes follow that libhdf5 does not look at.
_HEAP = b"GCOL\x01"
#: Deflate cannot pack better than 1 to 1032; chunks that were never written take no bytes at all.
_MAX_RATIO = 1100
#: A chunk is unpacked whole, however little of it is asked for: a larger one must not be packed better than weights can be.
_LARGE_CHUNK, _LIKELY_RATIO = 64 << 20, 100
#: Filters within libhdf5 and h5py; any other would be looked for as a plug-in, a library to load.
_FILTERS = MappingProxyType({1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"})
_FAILURES = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError, AttributeError, LookupError)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let the process take little more memory meanwhile: libhdf5 allocates as many bytes as a string says that it has.

    Where the system cannot do that, nothing is bounded.
    """
    try:
        import resource

        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (as short as it can be: it is asked for each such attribute)
            held = int(file.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):
        yield
        return
    most = held + _MAX_METADATA_READ
    resource.setrlimit(resource.RLIMIT_AS, (most if before[0] == resource.RLIM_INFINITY else min(most, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Window:
    """A range of bytes as the file object that libhdf5 reads from. It is read-only, and no read is larger than ``limit``."""

    def __init__(self, content: Content) -> None:
        self._data, self._start, self.size = content.data, content.start, content.size
        self._position = 0
        self.limit = _MAX_METADATA_READ
        #: The largest read so far: no object that libhdf5 holds in memory came from more.
        self.largest = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as files do."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; fewer bytes at the end."""
        wanted = len(buffer)
        self.largest = max(self.largest, wanted)
        if wanted > self.limit:
            raise MemoryError(f"a read of {wanted:,} bytes")
        first = self._start + min(self._position, self.size)
        content = self._data[first : min(first + wanted, self._start + self.size)]
        found = content.find(_HEAP) if wanted <= _MAX_METADATA_READ else -1
        while found >= 0:
            self._check_heap(first + found)
            found = content.find(_HEAP, found + 1)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _check_heap(self, start: int) -> None:
        """Refuse a heap of strings in whose list of objects libhdf5 would go round for ever."""
        length = int.from_bytes(self._data[start + 8 : start + 16], "little")
        position, end = start + 16, min(start + length, self._start + self.size)
        while position + 16 <= end:
            number = int.from_bytes(self._data[position : position + 2], "little")
            size = int.from_bytes(self._data[position + 8 : position + 16], "little")
            step = 16 + (size + 7) // 8 * 8 if number else size
            if step < 16 or position + step > end:
                raise ValueError("a heap of strings is damaged")
            position += step

    def read(self, count: int = -1) -> bytes:
        """The next bytes; h5py asks whether a file object can."""
        buffer = bytearray(self.size - self._position if count < 0 else count)
        return bytes(buffer[: self.readinto(buffer)])

    def flush(self) -> None:
        """Nothing was written."""


class LibraryHdf5(Hdf5):
    """A file as libhdf5 understands it; handles are those of h5py."""

    def __init__(self, path: Path, file: Any, window: Window, locate: Locate, max_header: int) -> None:
        super().__init__(path, locate, max_header)
        self._window = window
        self.root = self._walk(file)

    def attribute(self, group: Group, name: str) -> Any:
        """What stands in the header or in a heap."""
        import h5py

        handle = group.handle
        try:
            if not h5py.h5a.exists(handle, name.encode()):
                return None
            found = h5py.h5a.open(handle, name.encode())
            shape, kind = found.shape, found.get_type()
            count = prod(shape or ())
            variable = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
            if kind.get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT) or len(shape) > 1:
                return None
            if count * kind.get_size() > self._limit or (variable and count * self._window.largest > MAX_STRINGS):
                self.remark(f"attribute {name!r} of {count:,} values is too large to be read")
                return None
            # Strings of variable length lie in a heap; many may be the same large one.
            before, self._window.limit = self._window.limit, min(self._limit, MAX_STRINGS // max(1, count)) if variable else self._limit
            try:
                with _bounded_memory() if variable else nullcontext():
                    value = h5py.AttributeManager(_Identified(handle))[name]
            finally:
                self._window.limit = before
        except _FAILURES as error:
            self.remark(f"attribute {name!r} cannot be read ({_reason(error)})")
            return None
        return _plain(value)

    def _walk(self, file: Any) -> Group:
        import h5py

        root = Group("", h5py.h5o.get_info(file.id).addr, h5py.h5g.open(file.id, b"/"))
        seen: dict[int, Group | Dataset | None] = {root.address: root}
        todo, links, paths = [root], 0, 0
        kinds = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
        listed: list[tuple[bytes, int, int]]

        def note(name: bytes, info: Any) -> None:
            nonlocal paths
            known = info.type == h5py.h5l.TYPE_HARD and info.u in seen
            paths += len(name) + (0 if known else len(group.path))
            self.check_paths(paths, self._window.size)
            # h5py fills the same object for each link, so that it must be taken apart at once.
            listed.append((name, info.type, info.u))

        while todo:
            group, listed = todo.pop(), []
            group.handle.links.iterate(note, info=True)
            links += len(listed)
            if links > MAX_LINKS:
                raise self.corrupt(f"of more than {MAX_LINKS:,} links")
            for raw, kind, address in listed:
                name = raw.decode("utf-8", "surrogateescape")
                path = f"{group.path}/{name}" if group.path else name
                if kind != h5py.h5l.TYPE_HARD:
                    words = kinds.get(kind, "a link of a user-defined kind")
                    group.children[name] = Link(path, words)
                    self.remark(f"{words} at {path!r} was not followed", "outside-file")
                    continue
                if address not in seen:
                    seen[address] = found = self._visit(group, raw, path, address)
                    if isinstance(found, Group):
                        todo.append(found)
                known = seen[address]
                if known is not None:
                    group.children[name] = known
        self.datasets = sum(isinstance(known, Dataset) for known in seen.values())
        return root

    def _visit(self, group: Group, name: bytes, path: str, address: int) -> Group | Dataset | None:
        import h5py

        try:
            handle = h5py.h5o.open(group.handle, name)
            if isinstance(handle, h5py.h5g.GroupID):
                return Group(path, address, handle)
            if isinstance(handle, h5py.h5d.DatasetID):
                return Dataset(path, address, self._tensor(handle, path, address))
        except _FAILURES as error:
            raise self.corrupt(f"whose object {path!r} cannot be read ({_reason(error)})") from None
        return None  # a named datatype

    def _tensor(self, handle: Any, path: str, address: int) -> StoredTensor:
        import h5py

        space = handle.get_space()
        shape: tuple[int, ...] = tuple(space.get_simple_extent_dims()) if space.get_simple_extent_type() != h5py.h5s.NULL else (0,)
        if len(shape) > MAX_RANK:
            raise self.corrupt(f"whose dataset {path!r} has {len(shape)} dimensions")
        dtype, size, big_endian = _dtype(handle.get_type())
        nbytes = prod(shape) * size
        offset, held = handle.get_offset(), handle.get_storage_size()  # there is an offset only for values in one piece in this very file
        key = str(address)
        if offset is not None and 0 < held == nbytes and dtype in DTYPE_BITS and dtype != "string":
            if offset + nbytes > self._window.size:
                raise self.corrupt(f"that is truncated: dataset {path!r} reaches to byte {offset + nbytes:,} of {self._window.size:,}")
            whole = self._locate.contiguous(key, offset, nbytes, big_endian, identity_of(self.path))
            return StoredTensor(shape, contiguous_strides(shape), dtype, 0, whole)
        plan = handle.get_create_plist()
        layout = plan.get_layout()

        def without_values(why: str) -> Storage:
            return Storage(key, self.path, 0, nbytes, why, big_endian)

        if dtype not in DTYPE_BITS:
            self.remark(f"dataset {path!r} is of type {dtype}, whose values are not decoded", severity="note")
            storage = without_values(f"values of type {dtype} are not decoded")
        elif dtype == "string":
            storage = without_values("texts are not read as values")
        elif layout == h5py.h5d.VIRTUAL:
            self.remark(f"dataset {path!r} is virtual: its values lie in other datasets or files, which are not opened", "outside-file")
            storage = without_values("a virtual dataset, whose values lie elsewhere")
        elif plan.get_external_count():
            self.remark(f"dataset {path!r} keeps its values in an external file, which is not opened", "outside-file")
            storage = without_values("its values lie in an external file")
        elif not nbytes:
            storage = Storage(key, self.path, 0, 0, "", big_endian)
        elif nbytes >= 2**63:
            self.remark(f"dataset {path!r} claims the impossible shape {shape}")
            storage = without_values("no file can hold a tensor of this shape")
        elif layout == h5py.h5d.CONTIGUOUS:
            if held and held != nbytes:
                raise self.corrupt(f"whose dataset {path!r} of shape {shape} holds {held:,} bytes where {nbytes:,} should be")
            self.remark(f"dataset {path!r} was never written: the file holds none of its {nbytes:,} bytes", "missing-values")
            storage = without_values("its values were never written")
        else:
            storage = self._packed(plan, key, path, size, nbytes, held, big_endian, without_values)
        return StoredTensor(shape, contiguous_strides(shape), dtype, 0, storage)

    def _packed(self, plan: Any, key: str, path: str, size: int, nbytes: int, held: int, big_endian: bool, without_values: Any) -> Storage:
        """Values in chunks, perhaps compressed, or within the header: libhdf5 must unpack them."""
        import h5py

        filters = [plan.get_filter(position)[0] for position in range(plan.get_nfilters())]
        strange = [number for number in filters if number not in _FILTERS]
        chunk = prod(plan.get_chunk()) * size if plan.get_layout() == h5py.h5d.CHUNKED else 0
        unpacked = max(nbytes, chunk)
        why = ""
        if strange:
            why = f"its values are packed by filter {strange[0]}, which is not read"
        elif not held:
            why = "its values were never written"
        elif held > self._window.size:
            why = f"its values claim {held:,} of the file's {self._window.size:,} bytes; such are not read"
        elif unpacked > _MAX_UNPACKED or unpacked > held * _MAX_RATIO + (1 << 16) or chunk > max(_LARGE_CHUNK, held * _LIKELY_RATIO):
            why = f"its {unpacked:,} bytes would be unpacked from {held:,}; such are not read"
        if why:
            self.remark(f"dataset {path!r}: {why}", "missing-values")
            storage: Storage = without_values(why)
            return storage
        fetch = partial(unpack, self.path, self._locate, path, nbytes)
        return Storage(key, self.path, 0, nbytes, "", big_endian, fetch, fetch_part=fetch)


class _Identified:
    """The little that h5py's AttributeManager asks of the object whose attributes it reads."""

    def __init__(self, handle: Any) -> None:
        self.id = handle


@contextmanager
def open_with_library(path: Path, content: Content, locate: Locate, max_header: int) -> Iterator[LibraryHdf5]:
    """Open and walk a file.

    Raises
    ------
    CorruptCheckpointError
        libhdf5 cannot make sense of it, or a dataset reaches past its end.
    """
    window = Window(content)
    with _file(path, window) as file:
        try:
            found = LibraryHdf5(path, file, window, locate, max_header)
        except CkptAuditError:
            raise
        except _FAILURES as error:
            raise CorruptCheckpointError(path, f"an HDF5 file that is damaged ({_reason(error)})") from None
        yield found


@contextmanager
def _file(path: Path, window: Window) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(window, "r")
    except _FAILURES as error:
        reason = _reason(error)
        words = "that is truncated" if "truncated" in reason else "that libhdf5 cannot open"
        raise CorruptCheckpointError(path, f"an HDF5 file {words} ({reason})") from None
    try:
        yield file
    finally:
        file.close()


def unpack(path: Path, locate: Locate, name: str, nbytes: int, first: int = 0, count: int | None = None) -> bytes:
    """The values of one dataset that only libhdf5 can unpack, or only some of their bytes: then no more chunks than these lie in."""
    import h5py

    with opened(path, 0) as source:
        window = Window(locate.content(source.data))
        window.limit = nbytes + _MAX_METADATA_READ
        with _file(path, window) as file:
            try:
                at = file.id
                *groups, last = name.encode("utf-8", "surrogateescape").split(b"/")
                for part in (*groups, last):
                    if at.links.get_info(part).type != h5py.h5l.TYPE_HARD:
                        raise ValueError("its links have changed")
                    at = h5py.h5o.open(at, part)
                size = at.get_type().get_size()
                if prod(at.shape) * size != nbytes:
                    raise ValueError("its shape has changed")
                dataset = h5py.Dataset(at)
                if count is None:
                    values = _as_stored(dataset, ())
                else:
                    selected, begin = _selection(at.shape, first // size, -(-(first + count) // size))
                    values = _as_stored(dataset, selected)[first - begin * size :][:count]
            except _FAILURES as error:
                raise CorruptCheckpointError(path, f"dataset {name!r} cannot be unpacked ({_reason(error)})") from None
    return values


def _as_stored(dataset: Any, selected: tuple[int | slice, ...]) -> bytes:
    """Bytes of a part of a dataset in the file's own order, also of a single number, which h5py turns into the machine's."""
    import numpy

    return numpy.asarray(dataset[selected], dtype=dataset.dtype).tobytes()


def _selection(shape: tuple[int, ...], first: int, end: int) -> tuple[tuple[int | slice, ...], int]:
    """The smallest part of an array with the elements from ``first`` to ``end``, in C order, and which element it begins with."""
    at: list[int | slice] = []
    begin = 0
    for axis in range(len(shape)):
        row = prod(shape[axis + 1 :])
        low, high = (first - begin) // row, (end - 1 - begin) // row
        begin += low * row
        at.append(low if low == high else slice(low, high + 1))
        if low < high:
            break
    return tuple(at), begin


def _dtype(kind: Any) -> tuple[str, int, bool]:
    """Name, bytes of one element, and whether the most significant one comes first. A name of our own for what no framework has."""
    import h5py

    group, size = kind.get_class(), kind.get_size()
    if group == h5py.h5t.FLOAT:
        word, standard = f"float{8 * size}", {2: h5py.h5t.IEEE_F16LE, 4: h5py.h5t.IEEE_F32LE, 8: h5py.h5t.IEEE_F64LE}.get(size)
        same = standard is not None and kind.get_fields() == standard.get_fields() and kind.get_ebias() == standard.get_ebias()
        if same and kind.get_precision() == 8 * size:
            return word, size, kind.get_order() == h5py.h5t.ORDER_BE
        if size == 2 and kind.get_fields()[1:3] == (7, 8):  # sign, exponent position and width of bfloat16
            return "bfloat16", size, kind.get_order() == h5py.h5t.ORDER_BE
        return f"float of {kind.get_precision()} bits", size, False
    if group == h5py.h5t.INTEGER:
        word = f"{'int' if kind.get_sign() == h5py.h5t.SGN_2 else 'uint'}{8 * size}"
        whole = kind.get_precision() == 8 * size and word in DTYPE_BITS
        return (word if whole else f"integer of {kind.get_precision()} bits"), size, kind.get_order() == h5py.h5t.ORDER_BE
    if (
        group == h5py.h5t.ENUM
        and size == 1
        and kind.get_nmembers() == 2
        and {kind.get_member_name(i) for i in (0, 1)} == {b"FALSE", b"TRUE"}
    ):
        return "bool", 1, False
    if group in (h5py.h5t.STRING, h5py.h5t.VLEN):
        return "string", size, False
    if group == h5py.h5t.COMPOUND and kind.get_nmembers() == 2 and size in (8, 16):
        part = kind.get_member_type(0)
        if part.get_class() == h5py.h5t.FLOAT and part == kind.get_member_type(1) and part.get_size() * 2 == size:
            return f"complex{8 * size}", size, part.get_order() == h5py.h5t.ORDER_BE
    if group == h5py.h5t.OPAQUE and size == 2:  # what h5py makes of ml_dtypes' bfloat16, and Keras with it
        return "bfloat16", 2, False
    names = {h5py.h5t.OPAQUE: "opaque", h5py.h5t.ENUM: "enum", h5py.h5t.COMPOUND: "compound", h5py.h5t.BITFIELD: "bitfield"}
    return f"{names.get(group, 'unknown')} of {size} bytes", size, False


def _plain(value: Any) -> Any:
    """An attribute's value without numpy's types."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _reason(error: BaseException) -> str:
    """The last clause of h5py's message, which says what is wrong; the others say what was tried."""
    text = str(error.args[0] if error.args else type(error).__name__).strip("'\"")
    inner = text[text.find("(") + 1 : -1] if text.endswith(")") and "(" in text else text
    return inner[:120]


def note(file: IO[bytes], name: str, text: str) -> None:
    """Write a text as an attribute of the root of a file that is open for reading and writing."""
    import h5py

    with h5py.File(file, "r+") as opened:
        opened.attrs[name] = text
