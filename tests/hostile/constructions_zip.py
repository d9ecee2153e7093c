"""Zips that lie, contradict themselves or hold more than a torch file; TorchScript; what is no checkpoint at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.hostile.making import FOUR, SYSTEM, Case, pickled, safetensors, state_dict, tensor, text, torch_zip, zipped

GOOD = state_dict()
EVIL = pickled(SYSTEM)
WIDE = 0xFFFFFFFF
EITHER = "refuse finding"
ANY = "refuse finding ok"


def _zip64(size: int, packed: int, *more: int) -> bytes:
    fields = struct.pack(f"<{2 + len(more)}Q", size, packed, *more)
    return struct.pack("<2H", 1, len(fields)) + fields


def _containers() -> list[Case]:
    good, size = torch_zip(GOOD), len(GOOD)
    end = good.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", good, end + 16)[0]
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    wide_end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, end - start, start)

    def with_wide(record: bytes = wide_end, pointer: bytes = locator, last: bytes = good[end:]) -> bytes:
        return good[:end] + record + pointer + last

    def lied(where: str, **options: object) -> Case:
        return Case(f"{where}.pth", torch_zip(GOOD, options=options), ANY if "ok_" in where else EITHER)

    descriptor = struct.pack("<4s3I", b"PK\x07\x08", 0, size, size)
    found = [
        Case("good.pth", good, "ok"),
        Case("zip64_end.pth", with_wide(), "ok"),
        Case("zip64_fields.pth", torch_zip(GOOD, options={"extra": _zip64(size, size), "central_sizes": (WIDE, WIDE)}), "ok"),
        lied("zip64_extra_missing", central_sizes=(WIDE, WIDE)),
        lied("zip64_extra_short", central_sizes=(WIDE, WIDE), extra=struct.pack("<2H", 1, 8) + bytes(8)),
        lied("zip64_huge", central_sizes=(WIDE, WIDE), extra=_zip64(1 << 62, 1 << 62)),
        lied("zip64_wraps", central_sizes=(WIDE, WIDE), extra=_zip64((1 << 64) - 1, (1 << 64) - 1)),
        lied("zip64_header_past", central_sizes=(size, size), header=WIDE, extra=struct.pack("<2HQ", 1, 8, 1 << 63)),
        Case("zip64_locator_past.pth", with_wide(pointer=struct.pack("<4sIQI", b"PK\x06\x07", 0, 1 << 60, 1)), EITHER),
        Case("zip64_locator_other.pth", with_wide(pointer=struct.pack("<4sIQI", b"PK\x06\x07", 0, 4, 1)), EITHER),
        Case("zip64_count_other.pth", with_wide(record=wide_end.replace(struct.pack("<2Q", 4, 4), struct.pack("<2Q", 9, 9))), EITHER),
        Case("zip64_start_other.pth", with_wide(record=wide_end[:-8] + struct.pack("<Q", 4)), EITHER),
        Case("end_count_65535.pth", torch_zip(GOOD, count=65535), EITHER),
        Case("end_count_0.pth", torch_zip(GOOD, count=0), EITHER),
        Case("end_twice.pth", good + good[end:], EITHER),
        Case("end_in_comment.pth", torch_zip(GOOD, comment=good[end:]), EITHER),
        Case("whole_zip_in_comment.pth", torch_zip(GOOD, comment=torch_zip(state_dict(SYSTEM))), EITHER),
        Case("comment.pth", torch_zip(GOOD, comment=b"hello"), ANY),
        Case("comment_shorter_than_told.pth", torch_zip(GOOD, comment=b"hello", comment_length=50), EITHER),
        Case("comment_longer_than_told.pth", torch_zip(GOOD, comment=b"hello", comment_length=2), EITHER),
        Case("tail.pth", torch_zip(GOOD, tail=b"tail" * 40), EITHER),
        Case("tail_pickle.pth", torch_zip(GOOD, tail=EVIL), EITHER),
        Case("tail_zip.pth", good + torch_zip(state_dict(SYSTEM)), EITHER),
        Case("prefix.pth", torch_zip(GOOD, prefix=b"prefix" * 20), EITHER),
        Case("prefix_uncounted.pth", b"#!/bin/sh\nexit\n" + good, EITHER),
        Case("prefix_pickle.pth", EVIL + good, EITHER, "system"),
        Case("prefix_zip_counted.pth", torch_zip(GOOD, prefix=torch_zip(state_dict(SYSTEM))), EITHER),
        Case("shifted.pth", torch_zip(GOOD, shift=4), EITHER),
        Case("zeros_before_directory.pth", torch_zip(GOOD, before_directory=b"\0" * 8), ANY),
        Case("gap_before_directory.pth", torch_zip(GOOD, before_directory=EVIL * 3), EITHER),
        Case("gap_before_end.pth", torch_zip(GOOD, before_end=EVIL * 3), EITHER),
        lied("encrypted", flags=1),
        lied("strong_encrypted", flags=0x41),
        lied("ok_patched", flags=0x20),
        lied("ok_utf8_flag", flags=0x800),
        Case("descriptor.pth", torch_zip(GOOD, options={"flags": 8, "tail": descriptor, "local_sizes": (0, 0)}), ANY),
        Case("descriptor_lies.pth", torch_zip(GOOD, options={"flags": 8, "tail": descriptor[:8] + bytes(8), "local_sizes": (0, 0)}), ANY),
        Case("descriptor_evil.pth", torch_zip(GOOD, options={"tail": EVIL * 3}), EITHER),
        lied("central_smaller", central_sizes=(size - 5, size - 5)),
        lied("central_packed_differs", central_sizes=(size, size + 5)),
        lied("central_zero", central_sizes=(0, 0)),
        lied("ok_local_smaller", local_sizes=(size - 5, size - 5)),
        lied("central_deflated_local_stored", central_method=8),
        lied("method_bzip2", method=12, packed=bz2.compress(GOOD)),
        lied("method_xz", method=95, packed=lzma.compress(GOOD)),
        lied("method_zstd", method=93),
        lied("method_implode", method=6),
        Case("deflated.pth", torch_zip(GOOD, options={"method": 8}), "ok"),
        Case("deflated_evil.pth", torch_zip(state_dict(SYSTEM), options={"method": 8}), EITHER, "system"),
        lied("deflated_cut", method=8, packed=b"\x4b\x4c", size=size),
        lied("deflated_larger_than_told", method=8, central_sizes=(len(GOOD), 10)),
        lied("deflated_tail", method=8, packed=zlib.compress(GOOD)[2:-4] + b"tail" * 30),
        Case("crc_wrong.pth", torch_zip(GOOD, options={"crc": 1}), ANY),
        lied("ok_symlink", attributes=0o120777 << 16),
        lied("ok_device", attributes=0o060777 << 16),
        Case("symlink_member.pth", torch_zip(GOOD, ("a/data/1", b"/etc/passwd", {"attributes": 0o120777 << 16})), EITHER),
        Case("directory_members.pth", torch_zip(GOOD, ("a/", b""), ("a/data/", b"")), ANY),
        Case("local_name_evil.pth", torch_zip(GOOD, options={"local_name": b"evil.pkl.."[:10]}), EITHER),
        Case("local_extra.pth", torch_zip(GOOD, options={"local_extra": b"FB" + struct.pack("<H", 20) + b"Z" * 20}), "ok"),
        Case("local_extra_evil.pth", torch_zip(GOOD, options={"local_extra": b"xx" + struct.pack("<H", len(EVIL) * 3) + EVIL * 3}), ANY),
        Case("overlap_header_twice.pth", torch_zip(GOOD, ("a/data/1", FOUR, {"header": 0})), EITHER),
        Case("overlap_data.pth", torch_zip(GOOD, ("a/data/1", b"", {"header": 30, "central_sizes": (100, 100)})), EITHER),
        Case("overlap_directory.pth", torch_zip(GOOD, ("a/data/1", b"", {"central_sizes": (300, 300)})), EITHER),
        Case("duplicate_storage.pth", torch_zip(GOOD, ("a/data/0", FOUR)), EITHER, "data/0"),
        Case("duplicate_case.pth", torch_zip(GOOD, ("a/DATA.pkl", EVIL)), EITHER),
        Case("duplicate_version.pth", torch_zip(GOOD, ("a/version", b"9")), EITHER),
        Case("root_none.pth", zipped([("data.pkl", GOOD), ("data/0", FOUR), ("version", b"3")]), ANY),
        Case("root_deep_evil.pth", torch_zip(GOOD, ("a/b/data.pkl", EVIL)), EITHER, "system"),
        Case("root_empty_name.pth", torch_zip(GOOD, ("/data.pkl", EVIL)), EITHER),
        Case("root_backslash.pth", torch_zip(GOOD, ("a\\data.pkl", EVIL)), EITHER),
        Case("root_dot.pth", torch_zip(GOOD, ("./a/data.pkl", EVIL)), EITHER),
        Case("other_pickle.pth", torch_zip(GOOD, ("a/extra.pkl", EVIL)), EITHER, "system"),
        Case("other_pickle_upper.pth", torch_zip(GOOD, ("a/extra.PKL", EVIL)), EITHER, "system"),
        Case("other_pickle_broken.pth", torch_zip(GOOD, ("a/extra.pkl", EVIL[:-1] + b"\xff")), EITHER, "system"),
        Case("other_pickle_no_suffix.pth", torch_zip(GOOD, ("a/extra", EVIL)), EITHER),
        Case("other_pickle_large.pth", torch_zip(GOOD, ("a/extra.pkl", EVIL[:-1] + b"0" + b"N0" * 9_000_000 + b"N.", {"method": 8})), EITHER),
        Case("storage_is_pickle.pth", torch_zip(GOOD, ("a/data/9", EVIL)), EITHER),
        Case("storage_is_zip.pth", torch_zip(GOOD, storage=torch_zip(EVIL)), EITHER),
        Case("name_nul.pth", torch_zip(GOOD, (b"a/data/0\0.txt", FOUR)), EITHER),
        Case("name_latin.pth", torch_zip(GOOD, (b"a/\xff\xfe", FOUR)), EITHER),
        Case("name_escape.pth", torch_zip(GOOD, (b"a/\x1b[31mred", FOUR)), EITHER, "", ("\x1b",)),
        Case("name_bidi.pth", torch_zip(GOOD, ("a/\u202egpj", FOUR)), EITHER, "", ("\u202e",)),
        Case("name_newline.pth", torch_zip(GOOD, ("a/\n::error::x", FOUR)), EITHER),
        Case("name_empty.pth", torch_zip(GOOD, ("", FOUR)), ANY),
        Case("name_windows.pth", torch_zip(GOOD, ("C:\\Windows\\x", FOUR)), EITHER),
        Case("name_traversal.pth", torch_zip(GOOD, ("a/data/../../../x", FOUR)), EITHER),
        Case("members_100000.pth", torch_zip(GOOD, *((f"a/data/x{n}", b"") for n in range(20_000))), ANY),
        Case("byteorder_junk.pth", zipped([("a/data.pkl", GOOD), ("a/byteorder", b"middle"), ("a/data/0", FOUR)]), EITHER),
        Case("byteorder_large.pth", zipped([("a/data.pkl", GOOD), ("a/byteorder", b"little" + b" " * 99_999), ("a/data/0", FOUR)]), EITHER),
        Case("storage_absent.pth", zipped([("a/data.pkl", GOOD), ("a/version", b"3")]), "refuse", "data/0"),
        Case("storage_deflated.pth", zipped([("a/data.pkl", GOOD), ("a/data/0", FOUR, {"method": 8})]), ANY),
        Case("storage_deflated_bomb.pth", zipped([("a/data.pkl", GOOD), ("a/data/0", bytes(5 << 20), {"method": 8})]), ANY),
        Case("storage_long.pth", torch_zip(GOOD, storage=FOUR + EVIL), EITHER),
        Case("pickle_tail.pth", torch_zip(GOOD + EVIL), EITHER),
        Case("split.pth", good[: end + 4] + struct.pack("<2H", 1, 1) + good[end + 8 :], EITHER),
        Case("only_end.pth", struct.pack("<4s4H2IH", b"PK\x05\x06", *[0] * 7), "refuse"),
        Case("only_local.pth", good[:start], EITHER, "truncated"),
        Case("only_local_evil.pth", torch_zip(state_dict(SYSTEM))[: start + len(SYSTEM) - 9], EITHER, "system"),
        Case("directory_first_zeroed.pth", good[:start] + b"\0\0\0\0" + good[start + 4 :], EITHER),
    ]  # fmt: skip
    found += [Case(f"cut_{n}.pth", good[:n], "refuse") for n in (4, 30, 31, 60, 300, start, start + 10, end, end + 21)]
    found += [
        Case(f"flip_{n}.pth", good[:n] + bytes((good[n] ^ 0xFF,)) + good[n + 1 :], ANY)
        for n in (*range(4, 30, 3), *range(start + 4, start + 46, 5), *range(end, end + 22, 3))
    ]
    return found


def _scripts() -> list[Case]:
    module = b"c__torch__\nNet\n)\x81}" + text("w") + tensor() + b"sb"
    constants, code = pickled(b")"), b'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n'

    def script(pickle: bytes = pickled(module), constants: bytes = constants, code: bytes = code, *more: object) -> bytes:
        return torch_zip(pickle, ("a/constants.pkl", constants), ("a/code/__torch__.py", code), *more)

    return [
        Case("good.pt", script(), ANY, "code"),
        Case("evil_object.pt", script(pickled(b"}" + text("x") + SYSTEM + b"s")), EITHER, "system"),
        Case("evil_constants.pt", script(constants=EVIL), EITHER, "system"),
        Case("evil_constants_broken.pt", script(constants=EVIL[:-1]), EITHER, "system"),
        Case("evil_state.pt", script(pickled(b"c__torch__\nNet\n)\x81" + SYSTEM + b"b")), EITHER, "system"),
        Case("evil_own_class.pt", script(pickled(b"c__torch__\nNet\n(" + SYSTEM + b"tR")), EITHER, "system"),
        Case("own_class_dotted.pt", script(pickled(b"c__torch__\nos.system\n(" + text("x") + b"tR")), ANY),
        Case("evil_traced_inputs.pt", script(constants, constants, code, ("a/traced_inputs.pkl", EVIL)), EITHER, "system"),
        Case("evil_bytecode.ptl", script(constants, constants, code, ("a/bytecode.pkl", EVIL)), EITHER, "system"),
        Case("evil_extra.pt", script(pickled(module), constants, code, ("a/extra/x.pkl", EVIL)), EITHER, "system"),
        Case("code_huge.pt", script(code=b"# " + b"x" * (5 << 20)), ANY),
        Case("code_deep_list.pt", script(code=b"class Net(Module):\n  __parameters__ = " + b"[" * 50_000 + b"]" * 50_000), ANY),
        Case("code_quadratic.pt", script(code=b"class Net(Module):\n" * 50_000), ANY),
        Case("code_brackets.pt", script(code=b"class Net(Module):\n" + b"  __parameters__ = [" * 30_000), ANY),
        Case("code_not_utf8.pt", script(code=b"\xff\xfe" * 100), ANY),
        Case("code_bomb.pt", torch_zip(pickled(module), ("a/constants.pkl", constants), ("a/code/__torch__.py", b" " * (30 << 20), {"method": 8})), ANY),
        Case("code_alone.pt", zipped([("a/code/__torch__.py", code), ("a/version", b"3")]), "refuse"),
    ]  # fmt: skip


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, w=np.ones(3))
    return out.getvalue()


def _inner(called: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(called, b"x" * 100)
    return out.getvalue()


def _strangers() -> list[Case]:
    words: dict[str, tuple[bytes, str]] = {
        "gz.pth": (gzip.compress(GOOD), "gzip"),
        "bz2.pt": (bz2.compress(GOOD), "bzip2"),
        "xz.h5": (lzma.compress(GOOD), "xz"),
        "lzma.bin": (lzma.compress(GOOD, lzma.FORMAT_ALONE), ""),
        "zst.safetensors": (b"\x28\xb5\x2f\xfd" + bytes(60), "zstd"),
        "lz4.bin": (b"\x04\x22\x4d\x18" + bytes(60), ""),
        "7z.pt": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "7z"),
        "rar.bin": (b"Rar!\x1a\x07\x01\x00" + bytes(60), "RAR"),
        "tar.ckpt": (_tar(), "tar"),
        "tgz.pth": (gzip.compress(_tar()), "gzip"),
        "mp4.bin": (b"\0\0\0\x20ftypisom" + bytes(100), ""),
        "png.pth": (b"\x89PNG\r\n\x1a\n" + bytes(60), "PNG"),
        "jpeg.keras": (b"\xff\xd8\xff\xe0" + bytes(60), "JPEG"),
        "gif.h5": (b"GIF89a" + bytes(60), "GIF"),
        "wav.onnx": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(60), "media"),
        "ogg.bin": (b"OggS" + bytes(60), ""),
        "csv.pth": (b"epoch,loss\n1,0.5\n2,0.25\n", "text"),
        "parquet.bin": (b"PAR1" + bytes(60) + b"PAR1", "Parquet"),
        "arrow.bin": (b"ARROW1\0\0" + bytes(60), ""),
        "feather.bin": (b"FEA1" + bytes(60), ""),
        "npz.pth": (_npz(), "npz"),
        "npy.bin": (b"\x93NUMPY\x01\0" + bytes(60), "npy"),
        "mat.bin": (b"MATLAB 5.0 MAT-file" + b" " * 105 + b"\0\x01IM", ""),
        "gguf.bin": (b"GGUF\x03\0\0\0" + bytes(60), "GGUF"),
        "ggml.bin": (b"lmgg" + bytes(60), ""),
        "ggla.bin": (b"algg" + bytes(60), ""),
        "tflite.bin": (b"\x1c\0\0\0TFL3" + bytes(60), "Lite"),
        "coreml.mlmodel": (b"\x08\x04\x12\x0a\x0a\x08" + b"CoreML!!" + bytes(20), ""),
        "mlpackage.bin": (json.dumps({"fileFormatVersion": "1.0.0", "itemInfoEntries": {}}).encode(), "JSON"),
        "ncnn.param": (b"7767517\n75 83\nInput data 0 1 data\n", ""),
        "caffemodel.bin": (b"\x0a\x07AlexNet\xa2\x06\x10" + bytes(30), ""),
        "paddle.pdparams": (pickle.dumps({"w": np.ones(3), "StructuredToParameterName@@": {}}, 2), None),
        "sklearn.pkl": (pickled(b"csklearn.linear_model._base\nLinearRegression\n)\x81}" + text("coef_") + b"K\x01sb"), None),
        "joblib.joblib": (b"x\x9c" + bytes(60), ""),
        "pickle_of_text.bin": (pickle.dumps("hello"), ""),
        "pickle_of_list.bin": (pickle.dumps([1, 2, 3]), None),
        "html_error.pth": (b"<!DOCTYPE html>\n<html><title>404 Not Found</title></html>", "HTML"),
        "html_upper.bin": (b"<HTML><BODY>Sign in</BODY></HTML>", "HTML"),
        "html_bom.safetensors": (b"\xef\xbb\xbf\r\n\r\n<html><head></head></html>", "HTML"),
        "html_comment.pt": (b"<!-- saved from url -->\n<!doctype html><html></html>", "HTML"),
        "xml.keras": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        "json_error.bin": (b'{"error":"Repository not found"}', "JSON"),
        "json_list.safetensors": (b'[{"a": 1}]', "JSON"),
        "http_response.bin": (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n", "text"),
        "markdown.pth": ("# Modell\n\nÜbersicht\n".encode(), "text"),
        "yaml.ckpt": (b"model:\n  name: unet\n  depth: 5\n", "text"),
        "toml.onnx": (b"[model]\nname = 'unet'\n", "text"),
        "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n", "LFS"),
        "lfs_crlf.bin": (b"version https://git-lfs.github.com/spec/v1\r\noid sha256:" + b"a" * 64 + b"\r\nsize 12345\r\n", "LFS"),
        "lfs.index": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n", "LFS"),
        "annex.pth": (b"/annex/objects/SHA256E-s1234--abcdef.pth\n", ""),
        "dvc.pth": (b"outs:\n- md5: abcdef\n  size: 1\n  path: model.pth\n", "text"),
        "aria2.aria2": (b"\0\x01\0\0\0\0" + bytes(60), ""),
        "partial_zeros.safetensors": (bytes(5000), "zero"),
        "partial_zeros_behind.pth": (torch_zip(GOOD)[:100] + bytes(3000), "truncated"),
        "partial_st.safetensors": (safetensors({"w": {"dtype": "F32", "shape": [99], "data_offsets": [0, 396]}}, bytes(100)), "truncated"),
        "ones.bin": (b"\xff" * 5000, ""),
        "one_byte.pth": (b"\x80", ""),
        "two_bytes.onnx": (b"\x08\x07", ""),
        "seven_bytes.safetensors": (bytes(7), ""),
        "elf.bin": (b"\x7fELF\x02\x01\x01" + bytes(60), "Linux"),
        "exe.pth": (b"MZ\x90\0" + bytes(60), "Windows"),
        "macho.bin": (b"\xcf\xfa\xed\xfe" + bytes(60), ""),
        "pyc.bin": (b"\xcb\r\r\n" + bytes(60), ""),
        "class.bin": (b"\xca\xfe\xba\xbe" + bytes(60), ""),
        "sqlite.ckpt": (b"SQLite format 3\0" + bytes(90), "SQLite"),
        "shell.pt": (b"#!/bin/sh\necho hi\n", "script"),
        "python.pth": (b"import torch\nprint('hi')\n", "text"),
        "python_pth.pth": (b"import os; os.system('true')\n", "text"),
        "utf16.bin": ("hello world".encode("utf-16"), ""),
        "apk.pt": (_inner("AndroidManifest.xml"), "zip"),
        "jar.pt": (_inner("META-INF/MANIFEST.MF"), "zip"),
        "xlsx.h5": (_inner("[Content_Types].xml"), "office"),
        "zip_around.bin": (_inner("weights/model.safetensors"), "unpack"),
        "zip_around_text.keras": (_inner("readme.txt"), "zip"),
        "torch_package.pt": (_inner("m/.data/extern_modules"), "package"),
        "mar.mar": (_inner("MAR-INF/MANIFEST.json"), "zip"),
        "pdf.h5": (b"%PDF-1.7\n" + bytes(60), "PDF"),
        "email.bin": (b"From: a@example.org\r\nSubject: weights\r\n\r\nhello\r\n", "text"),
        "base64.pth": (b"gAJ9cQAu" * 40, "text"),
        "hex.pth": (b"80027d71002e" * 40, "text"),
        "tf_event.bin": (struct.pack("<Q", 24) + bytes(60), ""),
        "tfrecord.index": (struct.pack("<QI", 10, 5) + b"0123456789" + bytes(4), ""),
        "tf_meta.meta": (b"\x0a\xff\x01" + bytes(80), ""),
        "checkpoint_state": (b'model_checkpoint_path: "model.ckpt-1"\n', "text"),
        "h5_signature_only.h5": (b"\x89HDF\r\n\x1a\n", ""),
        "h5_crlf_mangled.h5": (b"\x89HDF\n\n\x1a\n" + bytes(90), ""),
        "hdf4.h5": (b"\x0e\x03\x13\x01" + bytes(60), ""),
    }
    return [Case(called, content, "refuse" if word is not None else ANY, word or "") for called, (content, word) in words.items()]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _linked(target: str):
    return lambda path: path.symlink_to(target)


def _ring(path: Path) -> None:
    path.symlink_to(path.name + "2")
    (path.parent / (path.name + "2")).symlink_to(path.name)


def _held(called: str, content: bytes):
    def make(path: Path) -> None:
        (path.parent / called).write_bytes(content)
        path.symlink_to(called)

    return make


def _folder(**files: bytes):
    def make(path: Path) -> None:
        path.mkdir()
        for called, content in files.items():
            (path / called.replace("__", ".")).write_bytes(content)

    return make


def _within_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_bytes(GOOD)


def _files() -> list[Case]:
    st = safetensors({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, FOUR)
    return [
        Case("fifo.safetensors", _fifo, "refuse"),
        Case("fifo.h5", _fifo, "refuse"),
        Case("fifo_link.pth", lambda path: (_fifo(path.parent / "f"), path.symlink_to("f")), "refuse"),
        Case("null.pth", _linked("/dev/null"), "refuse"),
        Case("urandom.bin", _linked("/dev/urandom"), "refuse"),
        Case("stdin.pth", _linked("/dev/stdin"), "refuse"),
        Case("proc_mem.pth", _linked("/proc/self/mem"), "refuse"),
        Case("ring.pth", _ring, "refuse"),
        Case("self.pth", lambda path: path.symlink_to(path.name), "refuse"),
        Case("dangling.h5", _linked("nowhere"), "refuse"),
        Case("link_to_good.pth", _held("real", st), ANY),
        Case("directory_link.pth", _linked("."), ANY),
        Case("below_a_file.pth/x.pth", lambda path: (path.parent.rmdir(), path.parent.write_bytes(GOOD)), "refuse"),
        Case("empty_folder", _folder(), "refuse"),
        Case("folder_of_strangers", _folder(readme__md=b"# hi", x__csv=b"a,b"), "refuse"),
        Case("folder_of_two", _folder(a__safetensors=st, b__safetensors=st), ANY),
        Case("folder_with_state", _folder(checkpoint=b'model_checkpoint_path: "../../../etc/passwd"\n', a__safetensors=st), ANY),
        Case("folder_with_nul_state", _folder(checkpoint=b'model_checkpoint_path: "\0"\n', a__safetensors=st), ANY),
        Case("folder_with_escape_state", _folder(checkpoint=b'model_checkpoint_path: "\x1b[31m"\n'), "refuse", "", ("\x1b",)),
        Case("-o.safetensors", st, "ok"),
        Case("--force", st, "ok"),
        Case("quote\"'`$(touch MARKER).safetensors", st, "ok"),
        Case("*.safetensors", st, "ok"),
        Case("[a-z].safetensors", st, "ok"),
        Case("tab\there.safetensors", st, "ok", "", ("\t",)),
        Case("bell\x07\x1b]0;x\x07.safetensors", st, "ok", "", ("\x07", "\x1b")),
        Case("c1\x9b31m.safetensors", st, "ok", "", ("\x9b",)),
        Case("line\r\nbreak.safetensors", st, "ok", "", ("\r",)),
        Case("\u2028\u2029\u0085.safetensors", st, "ok", "", ("\u2028", "\u2029", "\u0085")),
        Case("\u202e\u2066\u200f.safetensors", st, "ok", "", ("\u202e", "\u2066", "\u200f")),
        Case("\udcff\udcfe.safetensors", st, "ok"),
        Case("e\u0301\u200d\U0001f469.safetensors", st, "ok"),
        Case("<script>alert(1)<", st, "ok"),
        Case("::error file=x::y.safetensors", st, "ok"),
        Case("%0A%0D.safetensors", st, "ok"),
        Case("NUL", st, "ok"),
        Case(" ", st, "ok"),
        Case("~", st, "ok"),
        Case("x" * 255, st, "ok"),
    ]  # fmt: skip


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    return {"zip-container": _containers(), "torchscript": _scripts(), "not-a-checkpoint": _strangers(), "filesystem": _files()}
