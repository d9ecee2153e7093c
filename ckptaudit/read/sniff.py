"""What a file is when it is no checkpoint: one line that tells its owner what went wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ckptaudit.lazily import compiled_when_used

if TYPE_CHECKING:
    from ckptaudit.read.source import Source

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"GGUF", "a GGUF file (llama.cpp), a format that is not read"),
    (b"GGML", "a GGML file (llama.cpp), a format that is not read"),
    (b"ggjt", "a GGML file (llama.cpp), a format that is not read"),
    (b"\x93NUMPY", "a numpy array file (.npy), not a checkpoint"),
    (b"\x7fELF", "a Linux program or library"),
    (b"MZ", "a Windows program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet table"),
    (b"RIFF", "a media file (RIFF)"),
    (b"#!", "a script"),
)

_HTML = compiled_when_used(rb"<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_JSON = compiled_when_used(rb"\{|\[\s*[\[{\]\"\d-]")
_TFLITE = b"TFL3"


def describe(source: Source) -> str | None:
    """What the content looks like, or None."""
    head = source.head
    if source.is_zip:
        return _describe_zip(source)
    if source.size <= 8:
        return f"truncated to {source.size} bytes: too short for a checkpoint of any format"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, words in _MAGIC:
        if head.startswith(magic) or (len(magic) > 4 and text.startswith(magic)):
            return words
    if _HTML.search(text[:1024]):
        return "an HTML page, perhaps an error or a login page that was saved instead of the file"
    if head[4:8] == _TFLITE:
        return "a TensorFlow Lite model, a format that is not read"
    if is_tar(head):
        names = (b"sys_info", b"pickle", b"storages", b"tensors")
        layout = "torch's tar layout (before 0.2), which is not read" if head[:100].rstrip(b"\x00") in names else "unpack it first"
        return f"a tar archive: {layout}"
    if not head.strip(b"\x00"):
        return "nothing but zero bytes, as a broken download or a full disk leaves them"
    if head.startswith(b"\xef\xbf\xbd") or head.count(b"\xef\xbf\xbd") > 8:
        return "a binary file that was saved as text, which destroys it"
    if text.startswith((b"<?xml", b"<Error>")):
        return "an XML document, perhaps an error message that was saved instead of the file"
    if _JSON.match(text) and _is_text(head):
        return "a JSON document, but no index of shards"
    if b"<<<<<<< " in head and _is_text(head):
        return "a text file with merge conflicts"
    if _is_text(head):
        return "a text file, not a checkpoint"
    return None


def _describe_zip(source: Source) -> str:
    names = source.zip.members
    if not names:
        return "an empty zip"
    if "[Content_Types].xml" in names:
        return "an office document (a zip of XML), not a checkpoint"
    if any(name.endswith((".data/version", ".data/extern_modules")) for name in names):
        return "a torch.package archive: code and data, not a checkpoint"
    if any(name.endswith(".npy") for name in names):
        return "a numpy archive (.npz), not a checkpoint"
    inside = [name for name in names if name.endswith((".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".h5"))]
    if inside:
        return f"a zip archive around {inside[0]!r}: unpack it first"
    return f"a zip archive without a data.pkl, so not torch's ({len(names):,} members, the first {next(iter(names))[:80]!r})"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c in "\t\r\n\f" for c in text)


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes carry tar's checksum: the oldest variants have no magic number."""
    field = head[148:156].strip(b" \x00")
    if len(head) < 512 or not field or field.strip(b"01234567"):
        return False
    return int(field, 8) == sum(head[:148]) + sum(head[156:512]) + 8 * 0x20
