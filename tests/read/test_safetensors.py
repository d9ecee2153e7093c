"""safetensors: what the reference implementation writes is read alike; what it would refuse is refused, and a little more."""

from __future__ import annotations

import json
import struct
import tracemalloc
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError
from ckptaudit.read import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
]


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32", **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def test_equals_the_reference_implementation(tmp_path: Path) -> None:
    saved = {f"layer.{i}": torch.arange(6.0).reshape(2, 3).to(dtype) for i, dtype in enumerate(DTYPES)}
    saved |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}
    save_file(saved, tmp_path / "x.anything", metadata={"format": "pt", "epoch": "3"})
    read = open_checkpoint(tmp_path / "x.anything")
    loaded = load_file(tmp_path / "x.anything")
    assert read.format == "safetensors"
    assert read.metadata == {"format": "pt", "epoch": "3"}
    assert read.branch.tensors.keys() == loaded.keys()
    for name, tensor in loaded.items():
        stored = read.branch.tensors[name]
        assert (stored.shape, stored.dtype) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        assert stored.read().tobytes() == (tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")


def test_packed_dtype_counts_pairs_as_torch_does(tmp_path: Path) -> None:
    read = open_checkpoint(write(tmp_path / "f4", {"w": entry([3, 4], [0, 6], "F4")}, bytes(6)))
    assert (read.branch.tensors["w"].shape, read.branch.tensors["w"].dtype) == ((3, 2), "float4_e2m1fn_x2")
    assert read.read("w").shape == (3, 2)


REFUSED = {
    "header length 0": (b"{}", b"", 0, "header"),
    "header past the end": (b"{}", b"", 1000, "truncated"),
    "header too large": (b"{}", b"", 2**63, "header"),
    "no JSON": (b"{nonsense}", b"", None, "JSON"),
    "constant that JSON has not": (b'{"w": NaN}', b"", None, "dtype"),
    "nested too deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"", None, "deep"),
    "duplicate": (
        b'{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
        b"",
        None,
        "duplicate",
    ),
    "escaped duplicate": (b'{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0077":1}', b"", None, "duplicate"),
    "negative size": ({"w": entry([-2])}, bytes(8), None, "'w'"),
    "bool as size": ({"w": entry([True, 2])}, bytes(8), None, "'w'"),
    "float as offset": ({"w": entry([2], [0, 8.0])}, bytes(8), None, "'w'"),
    "product wraps": ({"w": entry([2**62, 4, 2], [0, 8])}, bytes(8), None, "'w'"),
    "span differs": ({"w": entry([3])}, bytes(8), None, "'w'"),
    "unknown dtype": ({"w": entry([2], [0, 8], "F99")}, bytes(8), None, "F99"),
    "overlap": ({"v": entry(), "w": entry([2], [4, 12])}, bytes(12), None, "overlap"),
    "hole": ({"v": entry(), "w": entry([2], [12, 20])}, bytes(20), None, "hole"),
    "cut": ({"v": entry()}, bytes(7), None, "truncated: 7 of 8"),
    "trailing": ({"v": entry()}, bytes(9), None, "behind"),
    "metadata not of strings": ({"__metadata__": {"a": 1}}, b"", None, "metadata"),
    "metadata a list": ({"__metadata__": []}, b"", None, "metadata"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    header, data, length, words = REFUSED[case]
    with pytest.raises(CorruptCheckpointError, match=words):
        open_checkpoint(write(tmp_path / "x.safetensors", header, data, length))


def test_header_bound_is_the_callers(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"w": entry()}, bytes(8))
    assert len(open_checkpoint(path).branch.tensors) == 1
    with pytest.raises(CorruptCheckpointError, match="header"):
        open_checkpoint(path, max_header=20)


# Shards


def shards(folder: Path, weight_map: object, **files: dict[str, torch.Tensor]) -> Path:
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": weight_map}))
    return index


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    index = shards(
        tmp_path,
        {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"},
        one={"a": torch.ones(2), "c": torch.zeros(1)},
        two={"b": torch.ones(3)},
    )
    for given in (index, tmp_path):
        read = open_checkpoint(given)
        assert read.format == "safetensors-index"
        assert [(name, t.shape) for name, t in read.branch.tensors.items()] == [("a", (2,)), ("b", (3,)), ("c", (1,))]
        assert read.read("b").tolist() == [1, 1, 1]
        assert not read.graph.tied
        assert read.metadata["shards"] == 2


def test_torch_shards(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "one.bin")
    torch.save({"b.weight": torch.zeros(3)}, tmp_path / "two.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "one.bin", "b.weight": "two.bin"}}))
    read = open_checkpoint(tmp_path)
    assert read.format == "torch-index"
    assert not read.graph.tied  # both shards call their storage "0"
    assert read.read("a.weight").tolist() == [1, 1]


BAD_NAMES = [
    "../one.safetensors",
    "/etc/passwd",
    "sub/../../x",
    "https://host/x",
    "",
    ".",
    "..",
    "a\0b",
    "c:x",
    "sub\\x",
    "model.safetensors.index.json",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_shards_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    with pytest.raises(CkptAuditError):
        open_checkpoint(shards(folder, {"a": name}))


def test_missing_shard_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, one={"a": torch.ones(2)})
    with pytest.raises(CorruptCheckpointError, match=r"1 of 2 shards.*two\.safetensors"):
        open_checkpoint(index)


def test_index_and_shard_must_agree(tmp_path: Path) -> None:
    index = shards(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"}, one={"a": torch.ones(2)})
    with pytest.raises(CorruptCheckpointError, match="promises tensor 'b'"):
        open_checkpoint(index)
    index = shards(tmp_path, {"a": "one.safetensors"}, one={"a": torch.ones(2), "extra": torch.ones(1)})
    assert "'extra'" in open_checkpoint(index).remarks[0]


def test_link_out_of_the_folder_is_followed_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "blob")
    (folder / "one.safetensors").symlink_to(tmp_path / "blob")
    assert "symbolic link" in open_checkpoint(shards(folder, {"a": "one.safetensors"})).remarks[0]


def test_duplicate_key_in_an_index_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}')
    with pytest.raises(CorruptCheckpointError, match="duplicate"):
        open_checkpoint(index)


def test_memory_is_a_small_multiple_of_the_header(tmp_path):
    """Of an honest header, and of those that make the reader keep more than rows."""
    number = 5_000
    entries = {f"layers.{i}.weight": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(number)}
    odd = {name: {**entry, "more": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} for name, entry in entries.items()}
    unfit = {name: {**entry, "shape": [2, i]} for i, (name, entry) in enumerate(entries.items())}
    for header, reason in ((entries, ""), (odd, ""), (unfit, "cannot lie")):
        content = json.dumps(header).encode()
        path = tmp_path / "a.safetensors"
        path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(4 * number))
        tracemalloc.start()
        with pytest.raises(CorruptCheckpointError, match=reason) if reason else nullcontext():
            tensors = open_checkpoint(path).branch.tensors
            assert len(tensors) == number
            assert tensors["layers.7.weight"].storage.offset == 8 + len(content) + 28
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * len(content), f"{peak / len(content):.1f} times"


@pytest.mark.parametrize("piece", ["[],", '{"b":1},', '"","",'])
def test_headers_that_unpack_to_many_times_their_length_are_not_parsed(tmp_path, piece):
    path = tmp_path / "a.safetensors"
    text = '{"a":[' + piece * 2_000_000 + "1]}"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    tracemalloc.start()
    with pytest.raises(CorruptCheckpointError, match="more parts than"):
        open_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(text)
