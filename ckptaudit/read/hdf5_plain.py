"""HDF5 files in the layout that h5py, and with it Keras, writes unless told otherwise, read without libhdf5.

To open an object takes libhdf5 about a tenth of a millisecond, and ``import h5py`` as long as a thousand of them. Keras' files are simple:
a superblock of version 0, object headers of version 1, groups as symbol tables, values in one piece; with ``libver="latest"`` a superblock
of version 2 or 3, headers of version 2, links and attributes in them while they are few (HDF5 File Format Specification 3.0, parts II to
IV). Whatever is anything else, refers to anything outside of the file, or contradicts itself, makes the whole file
:class:`NotPlain`, and libhdf5 is asked. So this reader has no opinion on damaged files; of those that it reads,
``tests/read/test_hdf5_plain.py`` holds it against libhdf5.

Addresses count from the start of the content. Every length is compared with what is left before anything is copied. Headers that do not
overlap cannot be more than the file, so that looking at more bytes than it has, or than a header may have, is a reason to stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from struct import Struct, error, pack, unpack_from
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.read.formats.hdf5 import signature_at
from ckptaudit.read.hdf5 import MAX_LINKS, MAX_RANK, Content, Dataset, Group, Hdf5, Locate
from ckptaudit.read.hdf5_checksum import checksum
from ckptaudit.read.identity import identity_of
from ckptaudit.read.stored import StoredTensor, contiguous_strides
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1
#: Versions of superblock, free space, root entry and shared headers, and 8 bytes for each offset and length.
_SUPERBLOCK = bytes((0, 0, 0, 0, 0, 8, 8, 0))
_ROOT = Struct("<QQII16s")  # of a symbol table: offset of the name, header's address, kind of what is cached, nothing, what is cached
_HEADER = Struct("<BxHII")  # version, messages, references, bytes of the first block
_MESSAGE = Struct("<HHB3x")  # type, bytes, flags
_TWO = Struct("<QQ")
_TREE = Struct("<4sBBHQQ")  # signature, kind of node, level, entries, siblings
_TABLE = Struct("<4sBxH")
_HEAP = Struct("<4sB3xQQQ")  # signature, version, bytes, first free block, address
_COLLECTION = Struct("<4sB3xQ")
_OBJECT = Struct("<HH4xQ")
_ATTRIBUTE = Struct("<BBHHH")  # version, flags, bytes of name, type and space
_TEXT = Struct("<IQI")  # bytes, address of the heap, number within it
#: Messages of an object header that matter.
_SPACE, _TYPE, _FILL, _LAYOUT, _ATTRIBUTES, _CONTINUED, _SYMBOLS = 0x01, 0x03, 0x05, 0x08, 0x0C, 0x10, 0x11
#: And those that newer headers have in the place of a symbol table.
_LINK_INFO, _LINK, _GROUP_INFO, _ATTRIBUTE_INFO, _REFERENCES = 0x02, 0x06, 0x0A, 0x15, 0x16
_KNOWN = frozenset({_SPACE, _TYPE, _LAYOUT, _SYMBOLS})
#: Room, old fill values, comments, times: they say nothing of where values lie.
_IDLE = frozenset({0x00, 0x04, 0x0D, 0x0E, 0x12})
#: Flags of a message: it never changes, it must not be shared. Others mean that it lies elsewhere, or what to do if it is not understood.
_FLAGS = frozenset({0x00, 0x01, 0x04, 0x05})
_CACHED_TABLE = 1
#: Version and class of a layout in one piece.
_CONTIGUOUS = frozenset({b"\3\1", b"\4\1"})
#: Messages with the two numbers that say where things are: tree and heap, or values and how many bytes they take; and where in them.
_WITH_PAIR = {_SYMBOLS: 0, _LAYOUT: 2}
#: Of headers that are remembered because others are like them: how many, bytes of each, and places of these two numbers.
_MAX_ALIKE, _MAX_ALIKE_BYTES, _MAX_CUTS = 256, 512, 8
_SPACE_PADDED = 2
_MAX_DEPTH = 32
_NO_BLOCK = 1  # what ends the list of free blocks of a heap


def _float(size: int, exponent: int, mantissa: int, order: int) -> bytes:
    """The datatype message of a float as IEEE 754 lays it out: sign, exponent, mantissa with its first bit implied."""
    bias = 2 ** (exponent - 1) - 1
    return pack("<BBBBIHHBBBBI", 0x11, 0x20 | order, 8 * size - 1, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)


def _integer(size: int, signed: bool, order: int) -> bytes:
    return pack("<BBBBIHH", 0x10, 8 * signed | order, 0, 0, size, 0, 8 * size)


#: Message of a number's type → its name, bytes of an element, whether the most significant one comes first.
_NUMBERS: Mapping[bytes, tuple[str, int, bool]] = MappingProxyType(
    {
        **{
            _float(size, exponent, mantissa, order): (name, size, bool(order))
            for name, size, exponent, mantissa in (
                ("float16", 2, 5, 10),
                ("bfloat16", 2, 8, 7),
                ("float32", 4, 8, 23),
                ("float64", 8, 11, 52),
            )
            for order in (0, 1)
        },
        **{
            _integer(size, signed, order): (f"{'int' if signed else 'uint'}{8 * size}", size, bool(order))
            for size in (1, 2, 4, 8)
            for signed in (False, True)
            for order in (0, 1)
        },
    }
)


#: Beginnings of the types of texts of fixed length: ended, filled up with NULs, with spaces; in ASCII or UTF-8.
_TEXTS = frozenset(bytes((0x13, padding | coding << 4)) for padding in (0, 1, 2) for coding in (0, 1))
#: Types of texts that lie in a heap, in ASCII or UTF-8, as lists of bytes.
_HEAP_TEXTS = frozenset(pack("<BBBBI", 0x19, 1, coding, 0, 16) + _integer(1, False, 0) for coding in (0, 1))


class NotPlain(Exception):  # noqa: N818 — nothing is wrong: another reader is asked
    """The file is not of the layout that is read here, or is damaged."""


#: Dtype, shape, strides, bytes, and whether the most significant one comes first.
_Kind = tuple[str, tuple[int, ...], tuple[int, ...], int, bool]


#: Names that bound a node or a table, and where it is.
_Bounded = tuple[bytes, bytes, int]


@dataclass(slots=True, eq=False)
class _Header:
    """What the messages of one object say."""

    #: Of a dataset.
    kind: _Kind | None
    #: Of a dataset where its values begin, and their bytes; of a group that is a symbol table its tree and its heap.
    pair: tuple[int, int] | None
    #: Of another group.
    links: list[tuple[bytes, int]] | None
    attributes: dict[str, Any]


def read_plain(path: Path, content: Content, locate: Locate, max_header: int) -> PlainHdf5 | None:
    """The file's tree; None where libhdf5 has to be asked."""
    block = signature_at(content.data, content.size, content.start)
    if block > 0 and locate.inflated < 0:
        content = replace(content, start=content.start + block, size=content.size - block)
        locate = replace(locate, start=locate.start + block, size=locate.size - block)
    try:
        return PlainHdf5(path, content, locate, max_header, max(block, 0))
    except (NotPlain, error, LookupError, ValueError):  # the latter of what is cut off
        return None


class PlainHdf5(Hdf5):
    """A file of the plain layout. The handle of a group holds its attributes by name."""

    def __init__(self, path: Path, content: Content, locate: Locate, max_header: int, block: int) -> None:
        super().__init__(path, locate, max_header)
        self._data, self._start, self._size = content.data, content.start, content.size
        #: What is at hand of the data: where it begins, and up to where headers may begin in it.
        self._window, self._first, self._last = (self._data, 0, len(self._data)) if isinstance(self._data, bytes) else (b"", 0, 0)
        self._left = self._texts = min(self._size, max_header)
        #: Bytes that the names may have that bound nodes and tables. Each bounds two of a level, and a healthy tree has few levels.
        self._bounds = 4 * self._left
        self._heaps: dict[int, tuple[bytes, dict[int, tuple[int, int]]]] = {}
        #: By type and dataspace.
        self._kinds: dict[tuple[bytes, bytes], _Kind] = {}
        #: Headers by all that is in them but 16 bytes, and where these begin; see :meth:`_header`.
        self._alike: dict[tuple[int, bytes, bytes], _Header] = {}
        self._cuts: set[int] = set()
        self._file = identity_of(path)
        self.root = self._walk(block)

    def attribute(self, group: Group, name: str) -> Any:
        """What was read with the group."""
        return group.handle.get(name)

    def _bytes(self, address: int, count: int) -> bytes:
        """A part of a header."""
        if address + count > self._size:
            raise NotPlain("it reaches past the end")
        self._left -= count
        if self._left < 0:
            raise NotPlain("its headers overlap")
        found: bytes = self._data[self._start + address : self._start + address + count]
        return found

    def _near(self, address: int, count: int) -> tuple[bytes, int]:
        """Bytes among which so many of a header lie, and where. Those that are looked at are to be taken off what is left."""
        if address + count > self._size:
            raise NotPlain("it reaches past the end")
        if self._left < 0:
            raise NotPlain("its headers overlap")
        position = self._start + address
        if not self._first <= position < self._last:
            self._window, self._first, self._last = self._data.near(position)
        at = position - self._first
        if at + count > len(self._window):
            return self._data[position : position + count], 0
        return self._window, at

    def _part(self, address: int, count: int) -> bytes:
        """A part of a header, most often of what is at hand."""
        self._left -= count
        at = self._start + address - self._first
        if self._left < 0 or at < 0 or at + count > len(self._window) or address + count > self._size:
            near, at = self._near(address, count)
            return near[at : at + count]
        return self._window[at : at + count]

    def _walk(self, block: int) -> Group:
        address, header = self._root_of_newer(block) if self._bytes(8, 1) in (b"\2", b"\3") else self._root(block)
        root = Group("", address, header.attributes)
        seen: dict[int, Group | Dataset] = {address: root}
        groups = {address: header}
        todo, links, paths, size = [root], 0, 0, self._size
        while todo:
            group = todo.pop()
            before = f"{group.path}/" if group.path else ""
            header = groups[group.address]
            members = self._entries(*header.pair) if header.pair is not None else self._linked(header.links or [])
            for raw, at, table in members:
                links += 1
                if links > MAX_LINKS:
                    raise self.corrupt(f"of more than {MAX_LINKS:,} links")
                paths += len(raw)
                name = raw.decode("utf-8", "surrogateescape")
                child = seen.get(at)
                if child is None:
                    paths += len(before)
                    header = self._header(at)
                    if header.kind is None:
                        child = Group(before + name, at, header.attributes)
                        groups[at] = header
                        todo.append(child)
                    else:
                        child = Dataset(before + name, at, self._tensor(header.kind, header.pair, str(at)))
                    seen[at] = child
                if paths > size:
                    self.check_paths(paths, size)
                if table is not None and (at not in groups or table != groups[at].pair):
                    raise NotPlain("a group is two")
                group.children[name] = child
        self.datasets = len(seen) - len(groups)
        return root

    def _root_of_newer(self, block: int) -> tuple[int, _Header]:
        """Address and header of the root, from a superblock of version 2 or 3."""
        head = self._bytes(0, 48)
        base, extension, end, address, told = unpack_from("<QQQQI", head, 12)
        if (
            not head.startswith(_SIGNATURE)
            or head[9:12] != b"\x08\x08\0"
            or base != block
            or end - base > self._size
            or extension != _NOWHERE
        ):
            raise NotPlain("another superblock")
        if checksum(head[:44]) != told:
            raise NotPlain("a superblock that is damaged")
        self._size = end - base
        self._in_table = self._in_node = 0
        header = self._header(address)
        if header.kind is not None:
            raise NotPlain("the root is no plain group")
        return address, header

    def _root(self, block: int) -> tuple[int, _Header]:
        """Address and header of the root, from a superblock of version 0."""
        head = self._bytes(0, 96)
        base, free, end, driver = unpack_from("<QQQQ", head, 24)
        if not head.startswith(_SIGNATURE + _SUPERBLOCK) or base != block or end - base > self._size or {free, driver} != {_NOWHERE}:
            raise NotPlain("another superblock")
        # What lies where counts from the superblock; only where the file ends does not.
        self._size = end - base
        in_table, in_node, flags = unpack_from("<HHI", head, 16)
        self._in_table, self._in_node = 2 * in_table, 2 * in_node
        _, address, cached, _, scratch = _ROOT.unpack_from(head, 56)
        header = self._header(address)
        table = header.pair if header.kind is None else None
        if flags or table is None or cached > _CACHED_TABLE or (cached and _TWO.unpack(scratch) != table):
            raise NotPlain("the root is no plain group")
        return address, header

    def _linked(self, links: list[tuple[bytes, int]]) -> Iterator[tuple[bytes, int, None]]:
        """What :meth:`_entries` gives, of a group that is no symbol table."""
        last = b""
        for name, address in sorted(links):
            if name <= last:
                raise NotPlain("two links of one name")
            last = name
            yield name, address, None

    def _newer_header(self, address: int) -> _Header:
        """The messages of an object header of version 2, in all of its blocks, each of which ends in a checksum."""
        version, flags = self._bytes(address + 4, 2)
        if version != 2 or flags & ~0x3F:
            raise NotPlain("another object header")
        position = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        begin = position + width
        size = int.from_bytes(self._bytes(address + position, width), "little")
        ordered = 2 if flags & 4 else 0
        messages: list[tuple[int, bytes]] = []
        blocks = [(address, begin, begin + size + 4, b"OHDR")]
        for start, first, length, signature in blocks:  # grows
            block, position, end, room = self._bytes(start, length), first, length - 4, False
            if block[:4] != signature or checksum(block[:end]) != int.from_bytes(block[end:], "little"):
                raise NotPlain("a header that is damaged")
            while position + 4 + ordered <= end:
                kind, size, flags = unpack_from("<BHB", block, position)
                body = block[position + 4 + ordered : position + 4 + ordered + size]
                position += 4 + ordered + size
                room |= kind == 0
                if position > end or flags not in _FLAGS:
                    raise NotPlain("a message that does not lie here")
                if kind == _CONTINUED:
                    at, more = _TWO.unpack_from(body)
                    if more < 8:
                        raise NotPlain("a header that is damaged")
                    blocks.append((at, 4, more, b"OCHK"))
                else:
                    messages.append((kind, body))
            if position < end and (any(block[position:end]) or room):
                raise NotPlain("a gap that is none")
        return self._made_of(messages, newer=True)

    def _made_of(self, messages: Iterable[tuple[int, bytes]], *, newer: bool = False) -> _Header:
        """What the messages of a header say of its object."""
        found: dict[int, bytes] = {}
        attributes: list[bytes] = []
        links: list[tuple[bytes, int]] = []
        for kind, body in messages:
            if kind == _ATTRIBUTES:
                if body[:2] not in (b"\x01\x00", b"\x03\x00"):
                    raise NotPlain("another attribute")
                attributes.append(body)
            elif kind == _FILL:
                if body[:1] not in (b"\1", b"\2", b"\3") or (newer and (body[0] != 3 or body[1] & 0xE0)):  # nor one that is told
                    raise NotPlain("another fill value")
            elif newer and kind == _LINK:
                links.append(_hard_link(body))
            elif newer and kind in (_LINK_INFO, _ATTRIBUTE_INFO):
                # Many links or attributes lie in a heap of another kind.
                begin = 2 + ((8 if kind == _LINK_INFO else 2) if body[1] & 1 else 0)
                nowhere = b"\xff" * (24 if body[1] & 2 else 16)
                if body[0] or body[1] & ~3 or body[begin : begin + len(nowhere)] != nowhere:
                    raise NotPlain("another group")
                if kind == _LINK_INFO and found.setdefault(kind, body) is not body:
                    raise NotPlain("another object")
            elif newer and kind in (_GROUP_INFO, _REFERENCES):
                continue
            elif kind not in _IDLE and (kind not in _KNOWN or found.setdefault(kind, body) is not body):
                raise NotPlain("another object")
        if found.keys() == {_SPACE, _TYPE, _LAYOUT} and not links:
            layout = found[_LAYOUT]
            if layout[:2] not in _CONTIGUOUS:
                raise NotPlain("another dataset")
            return _Header(self._kind(found[_TYPE], found[_SPACE]), _TWO.unpack_from(layout, 2), None, {})
        if found.keys() not in ({_SYMBOLS}, {_LINK_INFO}):
            raise NotPlain("another object")
        values = {_name(message): self._value(message) for message in attributes}
        if len(values) < len(attributes):
            raise NotPlain("two attributes of one name")
        if _SYMBOLS not in found:
            return _Header(None, None, links, values)
        if links:
            raise NotPlain("another object")
        return _Header(None, _TWO.unpack_from(found[_SYMBOLS]), None, values)

    def _header(self, address: int) -> _Header:
        """The messages of an object header, in all of its blocks."""
        near, at = self._near(address, 16)
        version, count, _, size = _HEADER.unpack_from(near, at)
        if version != 1:
            if near[at : at + 4] == b"OHDR":
                return self._newer_header(address)
            raise NotPlain("another object header")
        block = near[at + 16 : at + 16 + size]
        if len(block) == size and address + 16 + size <= self._size:
            self._left -= 16 + size
        else:
            self._left -= 16
            block = self._bytes(address + 16, size)
        # Most headers differ from one that was looked at before in the two numbers that say where things are, and in nothing else.
        for cut in self._cuts if size <= _MAX_ALIKE_BYTES else ():
            known = self._alike.get((count, block[:cut], block[cut + 16 :]))
            if known is not None:
                return _Header(known.kind, _TWO.unpack_from(block, cut), None, known.attributes)
        messages: list[tuple[int, bytes]] = []
        cut, left = 0, count
        blocks = [block]
        for block in blocks:  # grows
            position, length = 0, len(block)
            while position < length:
                kind, size, flags = _MESSAGE.unpack_from(block, position)
                position += 8
                body = block[position : position + size]
                if kind in _WITH_PAIR:
                    cut = position + _WITH_PAIR[kind]
                position += size
                left -= 1
                if left < 0 or position > length or flags not in _FLAGS:  # a block that continues itself never ends
                    raise NotPlain("a message that does not lie here")
                if kind == _CONTINUED:
                    blocks.append(self._part(*_TWO.unpack_from(body)))
                else:
                    messages.append((kind, body))
        if left:
            raise NotPlain("another object")
        header = self._made_of(messages)
        if len(block) <= _MAX_ALIKE_BYTES and len(blocks) == 1 and not header.attributes and len(self._alike) < _MAX_ALIKE:
            if len(self._cuts) < _MAX_CUTS:
                self._cuts.add(cut)
            if cut in self._cuts:
                self._alike[count, block[:cut], block[cut + 16 :]] = header
        return header

    def _entries(self, tree: int, heap: int) -> Iterator[tuple[bytes, int, tuple[int, int] | None]]:
        """Name and header's address of each member of a group, with its table where the entry tells; names ascend as libhdf5 needs it."""
        signature, version, size, free, start = _HEAP.unpack(self._part(heap, 32))
        if signature != b"HEAP" or version:
            raise NotPlain("another heap of names")
        names = self._part(start, size)
        if free != _NO_BLOCK:
            self._check_free(names, free)
        last = b""
        for low, high, table in self._leaves(tree, names):
            last = max(low, last)
            # There is room for more entries than are in use; only these are looked at.
            near, at = self._near(table, 8)
            signature, version, count = _TABLE.unpack_from(near, at)
            if signature != b"SNOD" or version != 1 or count > self._in_table or table + 8 + 40 * self._in_table > self._size:
                raise NotPlain("another symbol table")
            end = at + 8 + 40 * count
            if end <= len(near):
                self._left -= 8 + 40 * count
                entries = near[at + 8 : end]
            else:
                entries = self._part(table, 8 + 40 * count)[8:]
            for offset, address, cached, _, scratch in _ROOT.iter_unpack(entries):
                name = names[offset : names.index(0, offset)]
                if cached > _CACHED_TABLE or name <= last or name > high:
                    raise NotPlain("a link, or names in another order")
                last = name
                yield name, address, _TWO.unpack(scratch) if cached else None

    def _check_free(self, names: bytes, free: int) -> None:
        """Refuse a heap whose list of free blocks does not end."""
        for _ in range(len(names) // 16 + 1):
            if free == _NO_BLOCK:
                return
            if free + 16 > len(names):
                break
            after, length = _TWO.unpack_from(names, free)
            if not length or free + length > len(names):
                break
            free = after
        raise NotPlain("free blocks that are not there")

    def _leaves(self, root: int, names: bytes) -> Iterable[_Bounded]:
        """Tables of a group's tree in order."""
        level, before, after, children = self._node(root, names)
        if before != _NOWHERE or after != _NOWHERE:
            raise NotPlain("nodes in another order")
        return self._leaves_below(level, children, names) if level else children

    def _leaves_below(self, level: int, children: list[_Bounded], names: bytes) -> Iterator[_Bounded]:
        #: Of each level the node that was last visited, and the one that it calls the next.
        ends: dict[int, tuple[int, int]] = {}
        todo = [(level, iter(children))]
        while todo:
            level, nodes = todo[-1]
            found = next(nodes, None)
            if found is None:
                todo.pop()
            elif not level:
                yield found
            else:
                address = found[2]
                below, before, after, children = self._node(address, names)
                if below != level - 1 or (before, address) != ends.get(below, (_NOWHERE, address)):
                    raise NotPlain("nodes in another order")
                ends[below] = (address, after)
                todo.append((below, iter(children)))
        if any(after != _NOWHERE for _, after in ends.values()):
            raise NotPlain("nodes that are not there")

    def _node(self, address: int, names: bytes) -> tuple[int, int, int, list[_Bounded]]:
        """Level of a node, its neighbours, and what is below it."""
        near, at = self._near(address, 24)
        signature, kind, level, count, before, after = _TREE.unpack_from(near, at)
        if signature != b"TREE" or kind or level > _MAX_DEPTH:
            raise NotPlain("another tree")
        if count > self._in_node or (level and not count) or address + 32 + 16 * self._in_node > self._size:
            raise NotPlain("a tree that is cut off")
        end = at + 32 + 16 * count
        if end <= len(near):
            self._left -= 32 + 16 * count
            offset = int.from_bytes(near[at + 24 : at + 32], "little")
            inside = near[at + 32 : end]
        else:
            inside = self._part(address, 32 + 16 * count)
            offset, inside = int.from_bytes(inside[24:32], "little"), inside[32:]
        low = names[offset : names.index(0, offset)]
        bounds = self._bounds - len(low)
        below: list[_Bounded] = []
        for child, offset in _TWO.iter_unpack(inside):
            high = names[offset : names.index(0, offset)]
            bounds -= len(high)
            if high < low or bounds < 0:
                raise NotPlain("names in another order")
            below.append((low, high, child))
            low = high
        self._bounds = bounds
        return level, before, after, below

    def _kind(self, message: bytes, space: bytes) -> _Kind:
        """What the messages of its type and its dataspace say of a dataset."""
        known = self._kinds.get((message, space))
        if known is None:  # most datasets of a file are like others
            number = _number_type(message)
            opaque = message[:1] == b"\x15" and message[4:8] == b"\x02\0\0\0"  # what h5py makes of ml_dtypes' bfloat16, and Keras with it
            dtype, size, big_endian = number or (("bfloat16", 2, False) if opaque else ("", 0, False))
            shape = _shape(space)
            known = self._kinds[message, space] = dtype, shape, contiguous_strides(shape), prod(shape) * size, big_endian
        return known

    def _tensor(self, kind: _Kind, place: tuple[int, int] | None, key: str) -> StoredTensor:
        dtype, shape, strides, nbytes, big_endian = kind
        offset, held = place or (0, 0)
        if not nbytes or held != nbytes or offset + nbytes > self._size:
            raise NotPlain("values that are not there")
        return StoredTensor(shape, strides, dtype, 0, self._locate.contiguous(key, offset, nbytes, big_endian, self._file))

    def _value(self, message: bytes) -> Any:
        """An attribute as text, number or list of these; None where it has more dimensions."""
        version, _, _, type_size, space_size = _ATTRIBUTE.unpack_from(message)
        at, step = _name_end(message), 8 if version == 1 else 1
        kind = message[at : at + type_size]
        at += -(-type_size // step) * step
        space = message[at : at + space_size]
        data = message[at + -(-space_size // step) * step :]
        shape, size = _shape(space), int.from_bytes(kind[4:8], "little")
        count = prod(shape)
        if len(space) < space_size or not size or count * size > len(data):
            raise NotPlain("an attribute that is cut off")
        cells = [data[position : position + size] for position in range(0, count * size, size)]
        number = _number_type(kind)
        values: list[Any]
        if number is not None:
            values = [_number(cell, *number) for cell in cells]
        elif kind[:2] in _TEXTS and kind[2:4] == b"\0\0":
            values = [_text(_padded(cell, kind[1] & 0x0F)) for cell in cells]
        elif kind in _HEAP_TEXTS:
            values = [_text(self._text(*_TEXT.unpack(cell))) for cell in cells]
        else:
            raise NotPlain("an attribute of another type")
        return None if len(shape) > 1 else values if shape else values[0]

    def _text(self, length: int, heap: int, index: int) -> bytes:
        """A text of a heap, up to its first NUL."""
        if not length and not heap:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = self._collection(heap)
        content, spans = self._heaps[heap]
        start, size = spans.get(index, (0, -1))
        if length != size or length > self._limit:
            raise NotPlain("a heap of strings is damaged")
        self._texts -= length
        if self._texts < 0:
            raise NotPlain("many texts are one")
        return content[start : start + length].split(b"\0", 1)[0]

    def _collection(self, address: int) -> tuple[bytes, dict[int, tuple[int, int]]]:
        """A heap of strings, and where in it its objects lie, by number."""
        signature, version, size = _COLLECTION.unpack(self._bytes(address, 16))
        if signature != b"GCOL" or version != 1:
            raise NotPlain("a heap of strings is damaged")
        content = self._bytes(address, size)
        found: dict[int, tuple[int, int]] = {}
        position, end = 16, size
        while position + 16 <= end:
            number, _, length = _OBJECT.unpack_from(content, position)
            if not number:  # what is free, up to the end
                break
            position += 16
            if position + length > end or number in found:
                raise NotPlain("a heap of strings is damaged")
            found[number] = (position, length)
            position += (length + 7) // 8 * 8
        return content, found


def _hard_link(body: bytes) -> tuple[bytes, int]:
    """Name, and address of the object, of a link message."""
    flags, at = body[1], 2
    if body[0] != 1 or flags & ~0x1F:
        raise NotPlain("another link")
    if flags & 8:
        if body[at]:
            raise NotPlain("a link that leads elsewhere")
        at += 1
    at += 8 if flags & 4 else 0
    if flags & 16:
        if body[at] > 1:
            raise NotPlain("another link")
        at += 1
    width = 1 << (flags & 3)
    begin = at + width
    end = begin + int.from_bytes(body[at:begin], "little")
    name = body[begin:end]
    if begin == end or b"\0" in name:
        raise NotPlain("a name that is none")
    (address,) = unpack_from("<Q", body, end)
    return name, address


def _number_type(kind: bytes) -> tuple[str, int, bool] | None:
    """What a datatype message says, if it is that of a number; messages of a header are filled up to eight bytes."""
    return next((found for message, found in _NUMBERS.items() if kind[: len(message)] == message), None)


def _shape(space: bytes) -> tuple[int, ...]:
    """Dimensions of a dataspace message of version 1 or 2."""
    version, rank, flags, kind = space[:4].ljust(4, b"\xff")
    start = 8 if version == 1 else 4
    if version not in (1, 2) or rank > MAX_RANK or flags > 1 or (version == 2 and kind != (rank > 0)):
        raise NotPlain("another dataspace")
    shape = unpack_from(f"<{rank}Q", space, start)
    most = unpack_from(f"<{rank}Q", space, start + 8 * rank) if flags else shape
    if any(length > limit for length, limit in zip(shape, most, strict=True)):
        raise NotPlain("another dataspace")
    return shape


def _name_end(message: bytes) -> int:
    version, _, size, *_ = _ATTRIBUTE.unpack_from(message)
    return 8 + -(-size // 8) * 8 if version == 1 else int(9 + size)


def _name(message: bytes) -> str:
    start = 8 if message[0] == 1 else 9
    name = message[start : start + int.from_bytes(message[2:4], "little")]
    if name.find(b"\0") != len(name) - 1:
        raise NotPlain("a name without an end")
    return _text(name[:-1])


def _number(cell: bytes, dtype: str, size: int, big_endian: bool) -> int | float | None:
    order = "big" if big_endian else "little"
    if dtype == "bfloat16":
        cell, dtype = (cell + b"\0\0" if big_endian else b"\0\0" + cell), "float32"
    if dtype.startswith("float"):
        (value,) = unpack_from((">" if big_endian else "<") + {2: "e", 4: "f", 8: "d"}[len(cell)], cell)
        return float(value)
    return int.from_bytes(cell, order, signed=dtype.startswith("int"))  # type: ignore[arg-type]


def _padded(cell: bytes, padding: int) -> bytes:
    """A text of fixed length without what fills it up."""
    if padding == 0:
        return cell.split(b"\0", 1)[0]
    return cell.rstrip(b" " if padding == _SPACE_PADDED else b"\0")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
