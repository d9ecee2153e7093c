"""What is refused, in which words; what is never executed, opened or imported."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pkgutil
import socket
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch

from ckptaudit.errors import CheckpointError, CkptAuditError, CorruptCheckpointError, NotACheckpointError
from ckptaudit.read import formats, open_checkpoint
from ckptaudit.read.formats import IN_ORDER

if TYPE_CHECKING:
    from pathlib import Path

NOT_CHECKPOINTS = {
    b"": "empty",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n": "git-lfs pointer",
    b"\n<!DOCTYPE html><html><body>404</body></html>": "HTML",
    b"\x89PNG\r\n\x1a\n0000000000": "PNG",
    b"\x1f\x8b\x08\x00000000000000": "gzip",
    b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00": "GGUF",
    b"\x93NUMPY\x01\x00v\x00{'descr'": "numpy array",
    b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00": "HDF5",
    b'{"error": "not found"}': "JSON",
    b"import os\nos.system('true')\n": "text",
    b"hello world, this is no checkpoint": "text",
    bytes(100): "zero",
    b"\x00" + os.urandom(100): "no checkpoint of a known format",
    b"PK\x05\x06" + bytes(18): "empty zip",
    b"\x80\x02}q\x00": "truncated",
    b"\x80": "truncated",
}


@pytest.mark.parametrize("content", NOT_CHECKPOINTS, ids=NOT_CHECKPOINTS.values())
def test_says_what_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=NOT_CHECKPOINTS[content]) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)
    assert str(raised.value).isprintable()


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        server.bind("sock")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, words in {
        "fifo": "FIFO",
        "sock": "socket",
        "dangling": "no such file",
        "loop": "levels of symbolic links",
        "folder": "directory",
        "zero": "device",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            open_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError):
        open_checkpoint("nul\0byte")


def test_folder_with_one_checkpoint(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(1)}, tmp_path / "a.pth")
    assert open_checkpoint(tmp_path).path == tmp_path / "a.pth"
    torch.save({"a.weight": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(NotACheckpointError, match=r"2 checkpoints \(a\.pth, b\.pth\)"):
        open_checkpoint(tmp_path)


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def saved(value: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


CALLS = {
    "bare": pickle.dumps(Runs()),
    "bare, protocol 0": pickle.dumps(Runs(), 0),
    "zip": saved({"w": torch.ones(1), "x": Runs()}),
    "legacy": saved({"w": torch.ones(1), "x": Runs()}, _use_new_zipfile_serialization=False),
    "second pickle": pickle.dumps({"a": 1}) + pickle.dumps(Runs()),
    "no STOP": pickle.dumps(Runs())[:-1],
    "then nonsense": pickle.dumps(Runs(), 0)[:-1] + b"\xff",
    "popped": b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R0}.",
    "instance": b"(S'true'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'true'\no.",
    "extension": b"\x80\x02\x82\x07X\x04\x00\x00\x00true\x85R.",
    "build": b"\x80\x02cos\nsystem\n}b.",
    "computed module": b"\x80\x04cbuiltins\ngetattr\n)R\x8c\x06system\x93.",
}


@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_called_and_every_call_is_told(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    path.write_bytes(CALLS[case])
    words = {"extension": "extension", "computed module": "getattr"}.get(case, "system")
    try:
        told = [refused.name for refused in open_checkpoint(path).refused_globals if refused.called]
    except CkptAuditError as error:
        told = [str(error)]
    assert any(words in name for name in told)
    assert [made.name for made in tmp_path.iterdir()] == ["x.pt"]


def test_refused_global_says_where(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\ns.")
    (refused,) = open_checkpoint(tmp_path / "x").refused_globals
    assert (refused.name, refused.position, refused.called) == ("os.system", 9, False)


def nested_tuple(levels: int) -> bytes:
    return b"\x80\x02)" + b"2\x86" * levels


BOMBS = {
    "tuple as key": b"}" + nested_tuple(64)[2:] + b"K\x01s.",
    "integers of one hash": b"}("
    + b"".join(b"\x8a\x10" + ((2**61 - 1) * n).to_bytes(16, "little") + b"N" for n in range(1, 20_000))
    + b"u.",
    "shared lists": b"]" + b"q\x00(" + b"h\x00" * 10 + b"l" + b"q\x00(h\x00h\x00h\x00h\x00l" * 60 + b".",
    "bytearray": b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "long length": b"\x8b\xff\xff\xff\x7f.",
    "bytes length": b"\x8e" + b"\xff" * 8 + b".",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep calls": b"cos\nsystem\n" + b")R" * 100_000 + b".",
    "list in itself": b"]q\x00h\x00a.",
    "copied pairs": b"](KA\x86" + b"KA\x86" * 10_000 + b"eq\x00" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 1000 + b"h\x00.",
    "many operations": b"N0" * 2_000_000 + b"N.",
    "memo index": b"Np" + b"9" * 5000 + b"\n.",
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_do_not_go_off(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x"
    path.write_bytes((b"" if BOMBS[case].startswith(b"\x80") else b"\x80\x02") + BOMBS[case])
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600 << 20,) * 2)\nresource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "from ckptaudit.read import open_checkpoint\nfrom ckptaudit.errors import CkptAuditError\n"
        "try: open_checkpoint(sys.argv[1])\nexcept CkptAuditError: pass"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def rebuilt(
    storage: str = "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ", args: bytes = b""
) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + storage.encode("latin-1") + args + b"tRs."


GOOD_ARGS = b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89}"
BAD_TENSORS = {
    "offset past the end": b"K\x01K\x02K\x03\x86K\x03K\x01\x86\x89}",
    "stride past the end": b"K\x00K\x02K\x03\x86K\x04K\x01\x86\x89}",
    "negative size": b"K\x00J\xff\xff\xff\xffK\x03\x86K\x03K\x01\x86\x89}",
    "ranks differ": b"K\x00K\x02K\x03\x86K\x03\x85\x89}",
    "size is None": b"K\x00NK\x03K\x01\x86\x89}",
    "too few arguments": b"K\x00",
    "huge": b"K\x00\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x86K\x00K\x00\x86\x89}",
}


def torch_zip(path: Path, pickled: bytes, members: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in (members if members is not None else {"archive/data/0": bytes(24)}).items():
            archive.writestr(name, content)
    return path


def test_handmade_tensor_is_read(tmp_path: Path) -> None:
    read = open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=GOOD_ARGS)))
    assert (read.branch.tensors["w"].shape, read.read("w").tolist()) == ((2, 3), [[0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensor_that_contradicts_itself(tmp_path: Path, case: str) -> None:
    with pytest.raises(CorruptCheckpointError, match="tensor 'w'"):
        open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=BAD_TENSORS[case])))


def test_missing_and_short_storages_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="'archive/data/0' is missing"):
        open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=GOOD_ARGS), {}))
    with pytest.raises(CorruptCheckpointError, match="holds 20 bytes where 24"):
        open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=GOOD_ARGS), {"archive/data/0": bytes(20)}))


def test_big_endian_values(tmp_path: Path) -> None:
    members = {"archive/data/0": torch.arange(6.0).numpy().astype(">f4").tobytes(), "archive/byteorder": b"big"}
    assert open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=GOOD_ARGS), members)).read("w").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_that_two_readers_read_differently(tmp_path: Path) -> None:
    for other in ("archive/data.pkl", "ARCHIVE/data.pkl", "second/data.pkl"):
        with pytest.raises(CorruptCheckpointError, match=r"data\.pkl"):
            open_checkpoint(torch_zip(tmp_path / "x", rebuilt(args=GOOD_ARGS), {"archive/data/0": bytes(24), other: b"N."}))


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_a_clean_refusal(tmp_path: Path, legacy: bool) -> None:
    whole = saved({"a.weight": torch.ones(7), "b.bias": torch.zeros(3)}, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "cut.pth"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"truncated|too short"):
            open_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncation_is_told_in_bytes(tmp_path: Path, legacy: bool) -> None:
    whole = saved({"a.weight": torch.ones(5000)}, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "cut").write_bytes(whole[:12_288])
    words = f"12,288 of {len(whole):,} bytes" if legacy else r"12,288 of at least 20,\d\d\d bytes"
    with pytest.raises(CorruptCheckpointError, match=words):
        open_checkpoint(tmp_path / "cut")


def test_damage_does_not_hide_a_call(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(saved({"a.weight": torch.ones(5000), "x": Runs()})[:12_288])
    with pytest.raises(CorruptCheckpointError, match=r"truncated.*calls (posix|os|nt)\.system"):
        open_checkpoint(tmp_path / "cut")


@pytest.mark.parametrize("legacy", [False, True])
def test_flipped_bytes_never_crash(tmp_path: Path, legacy: bool) -> None:
    whole = bytearray(saved({"a.weight": torch.ones(2), "epoch": 1}, _use_new_zipfile_serialization=not legacy))
    path = tmp_path / "flipped.pth"
    for position in range(len(whole)):
        flipped = whole.copy()
        flipped[position] ^= 0x55
        path.write_bytes(flipped)
        with contextlib.suppress(CkptAuditError):
            open_checkpoint(path)


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "x.pt")
    script = (
        "import sys\nfrom ckptaudit.read import open_checkpoint\n"
        "read = open_checkpoint(sys.argv[1]); read.graph\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'h5py', 'networkx', 'onnx', 'zipfile', 'ml_dtypes'})"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "x.pt"], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_format_is_asked():
    assert sorted(IN_ORDER) == sorted(found.name for found in pkgutil.iter_modules(formats.__path__))
