"""The directory of a zip file, read strictly and without touching the members.

The standard library's reader believes the last of two members of one name where torch believes the first, spends 10 µs on each member,
and inflates what it is told to inflate. An auditor needs to know *where* bytes lie, and to refuse a file that two readers would read
differently.
"""

from __future__ import annotations

import struct
import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.checkpoint import Remark
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_MAX_MEMBERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory.

    Attributes
    ----------
    name:
        As the directory spells it.
    size, packed:
        Bytes of the content, and bytes that it takes in the file.
    method:
        0 stored, 8 deflated.
    header:
        Where the local header begins; the content follows it.
    """

    name: str
    size: int
    packed: int
    method: int
    header: int

    @property
    def stored(self) -> bool:
        """Whether the content lies in the file as it is."""
        return self.method == _STORED


@dataclass(frozen=True, eq=False)
class ZipDirectory:
    """Members by name.

    Attributes
    ----------
    path, data:
        The file, for messages, and its bytes.
    members:
        By name, in the directory's order.
    remarks:
        What is odd and harmless.
    start:
        Where the directory begins in the file; the members lie before it.
    """

    path: Path
    data: Any
    members: Mapping[str, Member]
    remarks: tuple[Remark, ...]
    start: int

    @classmethod
    def parse(cls, path: Path, data: Any, max_header: int) -> ZipDirectory:
        """Read the central directory, which may have ``max_header`` bytes.

        Raises
        ------
        CorruptCheckpointError
            It is missing, too large, contradicts itself, or could be read in two ways.
        """

        def corrupt(reason: str) -> CorruptCheckpointError:
            return CorruptCheckpointError(path, reason)

        size = len(data)
        tail = data[max(0, size - _END.size - 0xFFFF) :]
        end = size - len(tail) + tail.rfind(b"PK\x05\x06")
        if b"PK\x05\x06" not in tail or end + _END.size > size:
            raise corrupt(_describe_cut(data))
        _, disk, first_disk, _, count, length, start, comment = _END.unpack(data[end : end + _END.size])
        remarks: list[Remark] = []
        if end + _END.size + comment < size:
            remarks.append(Remark(f"{size - end - _END.size - comment:,} bytes follow the end of the zip", "unreferenced-bytes"))
        elif end + _END.size + comment > size:
            remarks.append(Remark(f"the zip's comment would have {comment:,} bytes, of which {size - end - _END.size:,} are there"))
        limit = end
        locator = end - _END64_LOCATOR.size
        if locator >= 0 and data[locator : locator + 4] == b"PK\x06\x07":
            # torch always writes the 64-bit end record, too; it counts where a field of the short one is full.
            limit = _END64_LOCATOR.unpack(data[locator:end])[2]
            if limit + _END64.size > locator or data[limit : limit + 4] != b"PK\x06\x06":
                raise corrupt("a zip whose 64-bit end record is not where its locator says")
            wide = _END64.unpack(data[limit : limit + _END64.size])
            if (count, length, start) != tuple(min(w, most) for w, most in zip(wide[7:], (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)):
                raise corrupt("a zip whose two end records contradict each other")
            disk, first_disk, _, count, length, start = wide[4:]
        if disk or first_disk:
            raise corrupt("one part of a zip that is split over several files")
        if start + length > limit:
            raise corrupt(
                f"a zip whose directory would lie at bytes {start:,} to {start + length:,}, where it cannot be in a file of {size:,}"
            )
        if start + length < limit:
            words = f"{limit - start - length:,} bytes lie between the zip's directory and its end record"
            remarks.append(Remark(words, "unreferenced-bytes"))
        if length > max_header:
            raise corrupt(f"a zip whose directory has {length:,} bytes; more than {max_header:,} are not read")
        members = _members(data[start : start + length], start, size, corrupt)
        if len(members) != count:
            remarks.append(Remark(f"the zip's end record counts {count:,} members, its directory {len(members):,}"))
        return cls(path, data, members, tuple(remarks), start)

    def find(self, name: str) -> Member | None:
        """The member of this name, or of one that differs in case alone: torch's reader asks no more, and no two members are so alike."""
        return self.members.get(name) or self._folded.get(name.lower())

    @cached_property
    def _folded(self) -> Mapping[str, Member]:
        return {name.lower(): member for name, member in self.members.items()}

    def payload(self, member: Member) -> int:
        """Where the member's content begins in the file: behind its local header, which may be longer than the directory tells.

        Raises
        ------
        CorruptCheckpointError
            There is no local header, or the content would reach past the end of the file.
        """
        local = self.data[member.header : member.header + _LOCAL.size]
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
            raise CorruptCheckpointError(
                self.path, f"a zip without a local header at byte {member.header:,}, where member {member.name!r} should be"
            )
        name, extra = _LOCAL.unpack(local)[9:]
        start: int = member.header + _LOCAL.size + name + extra
        if start + member.packed > len(self.data):
            raise CorruptCheckpointError(
                self.path,
                f"a truncated zip: member {member.name!r} reaches to byte {start + member.packed:,} of a file of {len(self.data):,}",
            )
        return start

    def gaps(self) -> Iterator[tuple[int, int]]:
        """First byte, and the one behind the last, of each piece before the directory that belongs to no member."""
        reached = 0
        for member in sorted(self.members.values(), key=lambda m: m.header):
            if member.header > reached:
                yield reached, member.header
            reached = self.payload(member) + member.packed
        if self.start > reached:
            yield reached, self.start

    def local_name(self, member: Member) -> str:
        """The member's name as its local header spells it: the one that a stream reader believes."""
        length = _LOCAL.unpack(self.data[member.header : member.header + _LOCAL.size])[9]
        start = member.header + _LOCAL.size
        return _decoded(self.data[start : start + length])

    def content(self, member: Member, limit: int) -> bytes:
        """The member's content, inflated where needed, but never more than ``limit`` bytes of it.

        Raises
        ------
        CorruptCheckpointError
            It is larger, damaged, or packed by a method other than deflate.
        """
        start = self.payload(member)
        if max(member.size, member.packed) > limit:
            raise CorruptCheckpointError(self.path, f"member {member.name!r} holds {member.size:,} bytes; more than {limit:,} are not read")
        packed: bytes = self.data[start : start + member.packed]
        if member.stored:
            return packed
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflater.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise CorruptCheckpointError(self.path, f"member {member.name!r} cannot be inflated ({error})") from None
        if inflater.unused_data:
            raise CorruptCheckpointError(
                self.path, f"member {member.name!r} has {len(inflater.unused_data):,} bytes behind the end of its compressed content"
            )
        if len(content) != member.size or not inflater.eof:
            raise CorruptCheckpointError(
                self.path, f"member {member.name!r} does not hold the {member.size:,} bytes that the zip's directory declares"
            )
        return content

    def beginning(self, member: Member, limit: int) -> bytes:
        """The first bytes of a member's content, at most ``limit``, and fewer where it is deflated.

        Raises
        ------
        CorruptCheckpointError
            It is damaged, or packed by a method other than deflate.
        """
        start = self.payload(member)
        packed: bytes = self.data[start : start + min(member.packed, limit)]
        if member.stored:
            return packed
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
        except zlib.error as error:
            raise CorruptCheckpointError(self.path, f"member {member.name!r} cannot be inflated ({error})") from None


def _members(directory: bytes, at: int, file_size: int, corrupt: Any) -> dict[str, Member]:
    """The entries of a directory that stands at byte ``at`` of the file."""
    position, end = 0, len(directory)
    members: dict[str, Member] = {}
    folded: dict[str, str] = {}
    while position < end:
        if position + _CENTRAL.size > end or directory[position : position + 4] != b"PK\x01\x02":
            raise corrupt(f"a zip whose directory is damaged at byte {at + position:,}")
        fields = _CENTRAL.unpack_from(directory, position)
        flags, method, packed, size, name_length, extra_length, comment_length, header = (
            fields[3],
            fields[4],
            fields[8],
            fields[9],
            fields[10],
            fields[11],
            fields[12],
            fields[16],
        )
        names = position + _CENTRAL.size
        extras = names + name_length
        position = extras + extra_length + comment_length
        if position > end:
            raise corrupt("a zip whose directory is damaged: an entry reaches past its end")
        name = _decoded(directory[names:extras])
        if 0xFFFFFFFF in (size, packed, header):
            size, packed, header = _zip64(directory[extras : extras + extra_length], size, packed, header, corrupt)
        if flags & 1:
            raise corrupt(f"a zip with an encrypted member, {name!r}")
        if method not in (_STORED, _DEFLATED):
            raise corrupt(f"a zip whose member {name!r} has unknown compression (method {method})")
        if method == _STORED and size != packed:
            raise corrupt(f"a zip whose member {name!r} is stored as it is, yet in {packed:,} bytes instead of {size:,}")
        if header + packed > file_size:
            raise corrupt(f"a truncated zip: member {name!r} reaches to byte {header + packed:,} of a file of {file_size:,}")
        # torch's reader ignores case and believes the first, Python's does not and believes the last: such a file has no one meaning.
        if folded.setdefault(name.lower(), name) != name or name in members:
            raise corrupt(f"a zip with two members of one name, {name!r}: readers disagree on which of them counts")
        members[name] = Member(name, size, packed, method, header)
        if len(members) > _MAX_MEMBERS:
            raise corrupt(f"a zip of more than {_MAX_MEMBERS:,} members")
    _refuse_overlaps(members, corrupt)
    return members


def _refuse_overlaps(members: Mapping[str, Member], corrupt: Any) -> None:
    # Overlapping members are how a few kilobytes inflate to terabytes, and how one storage passes for many.
    reached, before = 0, ""
    for member in sorted(members.values(), key=lambda m: m.header):
        if member.header < reached:
            raise corrupt(f"a zip whose members {before!r} and {member.name!r} overlap")
        reached, before = member.header + _LOCAL.size + member.packed, member.name


def _zip64(extra: bytes, size: int, packed: int, header: int, corrupt: Any) -> tuple[int, int, int]:
    """Replace the fields that are all ones by the 64-bit ones from the extra field, in the order that the format fixes."""
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, position)
        if tag == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - position - 4) // 8}Q", extra, position + 4))
            try:
                return (
                    next(wide) if size == 0xFFFFFFFF else size,
                    next(wide) if packed == 0xFFFFFFFF else packed,
                    next(wide) if header == 0xFFFFFFFF else header,
                )
            except StopIteration:
                break
        position += 4 + length
    raise corrupt("a zip whose directory is damaged: a 64-bit size is missing")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def first_member(data: Any, name: str) -> int | None:
    """Where the content of the first member begins, if it is stored as it is and its last name is ``name``."""
    local = data[: _LOCAL.size]
    if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
        return None
    method, length, extra = (_LOCAL.unpack(local)[i] for i in (3, 9, 10))
    start = _LOCAL.size + length + extra
    spelt = _decoded(data[_LOCAL.size : _LOCAL.size + length])
    return start if method == _STORED and spelt.rpartition("/")[2] == name and start < len(data) else None


def _describe_cut(data: Any) -> str:
    """What can be said of a zip without its directory: how far the members that are there would reach."""
    size, position = len(data), 0
    while position + _LOCAL.size <= size and data[position : position + 4] == b"PK\x03\x04":
        flags, packed, name, extra = (_LOCAL.unpack(data[position : position + _LOCAL.size])[i] for i in (2, 7, 9, 10))
        start = position + _LOCAL.size + name + extra
        if packed == 0xFFFFFFFF:
            fields = data[start - extra : start] if start <= size else b""
            packed = struct.unpack_from("<2Q", fields, 4)[1] if len(fields) >= 20 and fields[:2] == b"\x01\x00" else 0
        position = start + packed
        if position > size:
            return f"a truncated zip: {size:,} of at least {position:,} bytes"
        if flags & 8:  # sizes follow the content, which hides where the next member begins
            break
    return f"a truncated zip: {size:,} bytes, and the directory that ends every zip is missing"
