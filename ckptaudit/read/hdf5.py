"""HDF5 files as trees of groups and datasets, looked at without following anything that leaves them.

Two readers give the same tree: ``hdf5_plain`` reads the layout that h5py, and with it Keras, writes unless told otherwise; where a file
holds anything else, or is damaged, ``hdf5_library`` asks libhdf5.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.checkpoint import Remark
from ckptaudit.read.identity import FileIdentity, identity_of
from ckptaudit.read.source import opened
from ckptaudit.read.stored import Storage, StoredTensor
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckptaudit.read.source import Source

MAX_LINKS = 1 << 19
MAX_RANK = 32  # HDF5's own limit
#: Most bytes of one attribute, and of all texts of a list that lie in a heap.
MAX_ATTRIBUTE = 64 << 20
MAX_STRINGS = 1 << 30
_MAX_REMARKS = 20
#: Characters of all paths and names together, per byte of the file and in any file: groups within groups have paths that grow with each.
_PATHS_PER_BYTE, _MIN_PATHS = 4, 1 << 20
#: What a user block should not hold: whoever opens the file as something else would find it.
_SUSPECT = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)


@dataclass(eq=False)
class Dataset:
    """One dataset, by what its header says.

    Attributes
    ----------
    path:
        From the root of the file, ``/`` between names.
    address:
        Of its header within the file.
    tensor:
        How its values are stored.
    """

    path: str
    address: int
    tensor: StoredTensor


@dataclass(eq=False)
class Link:
    """A name that leads out of its group by other means than a hard link; it is never followed."""

    path: str
    words: str


@dataclass(eq=False)
class Group:
    """One group: its children by name, in libhdf5's order of names. The same object may be a child of several groups."""

    path: str
    address: int
    handle: Any
    children: dict[str, Group | Dataset | Link] = field(default_factory=dict)

    def groups(self) -> dict[str, Group]:
        """Its subgroups by name."""
        return {name: child for name, child in self.children.items() if isinstance(child, Group)}


class Hdf5:
    """An open file whose every object was visited once.

    Attributes
    ----------
    path:
        The file, for messages.
    root:
        The tree.
    datasets:
        How many there are in it.
    remarks:
        Links and objects that were not followed or not understood.
    """

    root: Group
    datasets: int

    def __init__(self, path: Path, locate: Locate, max_header: int) -> None:
        self.path = path
        self.remarks: list[str] = []
        self._locate = locate
        self._limit = min(max_header, MAX_ATTRIBUTE)
        self._unnamed = 0

    def corrupt(self, reason: str) -> CorruptCheckpointError:
        """The error that refuses the file."""
        return CorruptCheckpointError(self.path, f"an HDF5 file {reason}")

    def check_paths(self, length: int, size: int) -> None:
        """Refuse a file of ``size`` bytes whose paths are ``length`` characters in all, if that is more than its groups can need."""
        if length > _MIN_PATHS + _PATHS_PER_BYTE * size:
            raise self.corrupt(f"whose paths are longer than {_PATHS_PER_BYTE} times the file")

    def remark(self, words: str, rule: str = "odd-structure", severity: str = "warning") -> None:
        """Note something odd; a file that is odd all over is told of only so often."""
        if len(self.remarks) < _MAX_REMARKS:
            self.remarks.append(Remark(words, rule, severity))
        else:
            self._unnamed += 1
            self.remarks[_MAX_REMARKS:] = [f"and {self._unnamed:,} more remarks of this kind"]

    def find(self, group: Group, name: str) -> Group | Dataset | None:
        """What a relative path leads to, or None.

        Raises
        ------
        CorruptCheckpointError
            The path leads through a link that is not followed.
        """
        at: Group | Dataset | Link = group
        for part in name.split("/"):
            if part in ("", "."):
                continue
            if not isinstance(at, Group):
                return None
            child = at.children.get(part)
            if child is None:
                return None
            if isinstance(child, Link):
                raise self.corrupt(f"whose weights lie behind {child.words} at {child.path!r}, which is not followed")
            at = child
        return at if isinstance(at, (Group, Dataset)) else None

    def strings(self, group: Group, name: str) -> list[str] | None:
        """A list of names, also one that Keras split over ``name0``, ``name1`` … for want of room in a header."""
        whole = self.attribute(group, name)
        if whole is None:
            pieces: list[Any] = []
            while (piece := self.attribute(group, f"{name}{len(pieces)}")) is not None:
                pieces.append(piece)
            if not pieces:
                return None
            whole = [text for piece in pieces for text in (piece if isinstance(piece, list) else [piece])]
        listed = whole if isinstance(whole, list) else [whole]
        if not all(isinstance(text, str) for text in listed):
            raise self.corrupt(f"whose attribute {name!r} of {group.path or '/'!r} is no list of names")
        return listed

    def attribute(self, group: Group, name: str) -> Any:
        """An attribute as text, number or list of these; None when there is none or it is too large.

        Bytes that are no UTF-8 keep their values as surrogates.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an HDF5 file: a range of others."""

    data: Any
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Locate:
    """Where the HDF5 content lies within the named file: all of it, or a member of a zip, stored or deflated.

    Attributes
    ----------
    path:
        The named file.
    start, size:
        The range of it; of a deflated member the packed bytes.
    inflated:
        Bytes after inflating; -1 where the content lies in the file as it is.
    """

    path: Path
    start: int
    size: int
    inflated: int = -1

    def content(self, data: Any) -> Content:
        """The content, inflated where it has to be."""
        return Content(data, self.start, self.size) if self.inflated < 0 else Content(self.inflate(data), 0, self.inflated)

    def contiguous(self, key: str, offset: int, nbytes: int, big_endian: bool, file: FileIdentity) -> Storage:
        """The storage of values that lie in one piece of a file that is open."""
        if self.inflated < 0:
            return Storage(key, self.path, self.start + offset, nbytes, "", big_endian, None, file)
        return Storage(key, self.path, 0, nbytes, "", big_endian, partial(self._slice, offset, nbytes), file)

    def _slice(self, offset: int, nbytes: int) -> bytes:
        return _inflated(self, identity_of(self.path))[offset : offset + nbytes]

    def inflate(self, data: Any) -> bytes:
        """Unpack a deflated member."""
        import zlib

        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[self.start : self.start + self.size], self.inflated + 1)
        except zlib.error as error:
            raise CorruptCheckpointError(self.path, f"an archive whose weights cannot be inflated ({error})") from None
        if len(content) != self.inflated:
            raise CorruptCheckpointError(self.path, f"an archive whose weights do not have the {self.inflated:,} bytes that it declares")
        return content


@lru_cache(maxsize=1)
def _inflated(where: Locate, identity: FileIdentity) -> bytes:
    """The whole content, kept until another is wanted: inflating it again for each of its tensors would take for ever."""
    identity.check()
    with opened(where.path, 0) as source:
        return where.inflate(source.data)


@contextmanager
def open_hdf5(source: Source, locate: Locate | None = None) -> Iterator[Hdf5]:
    """Open and walk the HDF5 content of a file.

    Raises
    ------
    CorruptCheckpointError
        libhdf5 cannot make sense of it, or a dataset reaches past its end.
    """
    where = locate or Locate(source.path, 0, source.size)
    content = where.content(source.data)
    before = next((words for magic, words in _SUSPECT if locate is None and source.head.startswith(magic)), "")
    with _opened(source, content, where) as found:
        if before:
            found.remark(f"its user block holds {before}, which was not looked into", "unreferenced-bytes")
        yield found


@contextmanager
def _opened(source: Source, content: Content, where: Locate) -> Iterator[Hdf5]:
    from ckptaudit.read.hdf5_plain import read_plain

    plain = read_plain(source.path, content, where, source.max_header)
    if plain is not None:
        yield plain
        return
    from ckptaudit.read.hdf5_library import open_with_library

    with open_with_library(source.path, content, where, source.max_header) as found:
        yield found
