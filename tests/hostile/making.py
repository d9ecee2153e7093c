"""Parts that the constructions are made of: opcodes, zips, headers, tables and protocol buffers, byte by byte.

No payload does anything but create the file that ``CKPT_HOSTILE_MARKER`` names.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ckptaudit.read.sstable import crc32c


@dataclass(frozen=True)
class Case:
    """One file, and what must come of it.

    Attributes
    ----------
    file:
        Its name within the folder of its class; companions go beside it.
    content:
        Its bytes, or a function that makes it (and what belongs to it) at the given path.
    verdict:
        What ``scan`` may say: ``refuse``, ``finding``, ``ok``, or several of them.
    mention:
        A word of every refusal, and of the report of ``scan`` otherwise.
    never:
        What must not be printed as it is.
    """

    file: str
    content: bytes | Callable[[Path], object]
    verdict: str
    mention: str = ""
    never: tuple[str, ...] = ()

    def make(self, folder: Path) -> Path:
        """Write it, in a folder of its own."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


# --- pickles ----------------------------------------------------------------------------------------------------------------------------

COMMAND = 'touch "$CKPT_HOSTILE_MARKER"'


def text(words: str) -> bytes:
    """BINUNICODE."""
    content = words.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def name(dotted: str) -> bytes:
    """GLOBAL; a colon parts the module from a dotted name within it."""
    module, _, attribute = dotted.partition(":") if ":" in dotted else dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes | str, *arguments: bytes) -> bytes:
    """REDUCE of a tuple."""
    return (name(function) if isinstance(function, str) else function) + b"(" + b"".join(arguments) + b"tR"


SYSTEM = call("posix.system", text(COMMAND))
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
HOOKS = b"ccollections\nOrderedDict\n)R"


def tensor(storage: bytes = STORAGE, offset: bytes = b"K\x00", size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85") -> bytes:
    """A tensor of four floats, unless told otherwise."""
    return call("torch._utils._rebuild_tensor_v2", storage, offset, size, stride, b"\x89", HOOKS)


def pickled(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle of what ``body`` pushes."""
    return b"\x80" + bytes((protocol,)) + body + b"."


def state_dict(extra: bytes = b"", w: bytes | None = None) -> bytes:
    """A pickle of a dictionary: a good tensor, and what ``extra`` pushes."""
    return pickled(b"}" + text("w") + (tensor() if w is None else w) + b"s" + (text("x") + extra + b"s" if extra else b""))


# --- zips -------------------------------------------------------------------------------------------------------------------------------


def member(
    at: int,
    called: bytes,
    content: bytes,
    *,
    method: int = 0,
    flags: int = 0,
    packed: bytes | None = None,
    size: int | None = None,
    local_name: bytes | None = None,
    local_sizes: tuple[int, int] | None = None,
    central_sizes: tuple[int, int] | None = None,
    local_extra: bytes = b"",
    extra: bytes = b"",
    attributes: int = 0,
    tail: bytes = b"",
    header: int | None = None,
    crc: int | None = None,
    central_method: int | None = None,
) -> tuple[bytes, bytes]:
    """Local part and central record of one member that begins at byte ``at``; sizes are (packed, whole)."""
    if packed is None:
        packed = content
        if method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = squeeze.compress(content) + squeeze.flush()
    sizes = (len(packed), len(content) if size is None else size)
    crc = zlib.crc32(content) if crc is None else crc
    here = called if local_name is None else local_name
    told = local_sizes or sizes
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, flags, method, 0, 0, crc, *told, len(here), len(local_extra))
    record = struct.pack(
        "<4s6H3I5H2I",
        *(b"PK\x01\x02", 0x314, 20, flags, method if central_method is None else central_method, 0, 0, crc),
        *(central_sizes or sizes),
        *(len(called), len(extra), 0, 0, 0, attributes, at if header is None else header),
    )
    return local + here + local_extra + packed + tail, record + called + extra


def zipped(
    members: Iterable[tuple[str | bytes, bytes] | tuple[str | bytes, bytes, dict[str, object]]],
    *,
    prefix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    before_directory: bytes = b"",
    before_end: bytes = b"",
    shift: int = 0,
    tail: bytes = b"",
    comment_length: int | None = None,
) -> bytes:
    """A zip of members; positions count from the start of the file, prefix included, unless ``shift`` moves them."""
    out, directory, number = bytearray(prefix), b"", 0
    for called, content, *options in members:
        raw = called.encode() if isinstance(called, str) else called
        local, record = member(len(out) + shift, raw, content, **(options[0] if options else {}))
        out += local
        directory += record
        number += 1
    number = number if count is None else count
    out += before_directory
    start = len(out) + shift
    out += directory + before_end
    length = len(comment) if comment_length is None else comment_length
    return bytes(out) + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, number, number, len(directory), start, length) + comment + tail


FOUR = struct.pack("<4f", 1, 2, 3, 4)


def torch_zip(pickle: bytes, *more: object, options: dict[str, object] | None = None, storage: bytes = FOUR, **rest: object) -> bytes:
    """A torch file with ``pickle`` as its object and one storage."""
    members = [("a/data.pkl", pickle, options or {}), ("a/byteorder", b"little"), ("a/data/0", storage), ("a/version", b"3\n")]
    return zipped([*members, *more], **rest)  # type: ignore[list-item, arg-type]


# --- safetensors, tables, protocol buffers ----------------------------------------------------------------------------------------------


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Header, as JSON or as bytes, and data."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


def entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32", **more: object) -> dict[str, object]:
    """One tensor of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def varint(value: int) -> bytes:
    """A number as protocol buffers spell it."""
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, value: int | bytes | str) -> bytes:
    """One field: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def block(pairs: Iterable[tuple[bytes, bytes]], tail: bytes | None = None) -> bytes:
    """A block of a table; ``tail`` replaces its restart points."""
    body = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
    return body + (struct.pack("<2I", 0, 1) if tail is None else tail)


def stored(content: bytes, kind: int = 0) -> bytes:
    """A block with compression and checksum."""
    crc = crc32c(content + bytes((kind,)))
    return content + bytes((kind,)) + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def table(
    pairs: list[tuple[bytes, bytes]] | bytes,
    *,
    kind: int = 0,
    index: Iterable[tuple[bytes, bytes]] | None = None,
    footer: bytes | None = None,
) -> bytes:
    """A LevelDB table of one block; ``index`` and ``footer`` replace what would be right."""
    first = stored(pairs if isinstance(pairs, bytes) else block(pairs), kind)
    handles = stored(block([(b"\xff", varint(0) + varint(len(first) - 5))] if index is None else index))
    if footer is None:
        footer = varint(0) + varint(0) + varint(len(first)) + varint(len(handles) - 5)
    return first + handles + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
