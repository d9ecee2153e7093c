"""TensorFlow checkpoints: names, parts and values as TensorFlow itself tells them; what contradicts itself is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.errors import CheckpointError, CorruptCheckpointError, ValuesUnavailableError
from ckptaudit.read import open_checkpoint
from ckptaudit.read.sstable import crc32c, entries, unsnap
from ckptaudit.read.tf_bundle import _ordered, _slice_key

DATA = Path(__file__).parent.parent / "data" / "keras"
EXPECTED = json.loads((DATA / "expected.json").read_text())

# --- a writer, for files that TensorFlow would not write --------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(dtype: int, shape: Iterable[int], offset: int, size: int, shard: int = 0, slices: Iterable[bytes] = ()) -> bytes:
    dims = b"".join(field(2, field(1, size)) for size in shape)
    body = field(1, dtype) + field(2, dims) + field(3, shard) + field(4, offset) + field(5, size)
    return body + b"".join(field(7, extent) for extent in slices)


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    body, before = b"", b""
    for key, value in pairs:
        shared = next((n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), min(len(before), len(key)))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return body + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def stored(content: bytes, kind: int = 0) -> bytes:
    crc = crc32c(content + bytes((kind,)))
    return content + bytes((kind,)) + (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def table(pairs: list[tuple[bytes, bytes]], *, packed: bytes | None = None, kind: int = 0) -> bytes:
    first = stored(block(pairs) if packed is None else packed, kind)
    index = stored(block([(pairs[-1][0] + b"z", varint(0) + varint(len(first) - 5))]))
    footer = varint(0) + varint(0) + varint(len(first)) + varint(len(index) - 5)
    return first + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


HEADER = (b"", field(1, 1) + field(3, field(1, 1)))
GOOD = (b"w", tensor(1, (4,), 0, 16))


def write(folder: Path, pairs: list[tuple[bytes, bytes]], data: bytes | None = bytes(64)) -> Path:
    (folder / "x.index").write_bytes(table(pairs))
    if data is not None:
        (folder / "x.data-00000-of-00001").write_bytes(data)
    return folder / "x.index"


# --- what TensorFlow wrote --------------------------------------------------------------------------------------------------------------


def test_tf1_names_and_values() -> None:
    read = open_checkpoint(DATA / "tf1")
    found = {}
    for branch in (branch for branch in read.branches if branch.role != "ema"):
        for name, stored_tensor in branch.tensors.items():
            found[name] = [list(stored_tensor.shape), hashlib.sha256(stored_tensor.read().tobytes()).hexdigest()[:16]]
    wanted = {name: [shape, digest] for name, shape, digest in EXPECTED["tf1"]}
    averages = {name for name in wanted if name.endswith("/ExponentialMovingAverage")}
    assert {name: found[name] for name in wanted.keys() - averages} | {name: wanted[name] for name in averages} == wanted
    ema = read.with_branch("ema")
    for name in averages:  # under the name of the variable, beside what is not averaged
        assert hashlib.sha256(ema.read(name.rpartition("/")[0]).tobytes()).hexdigest()[:16] == wanted[name][1]
    assert list(ema.branch.tensors) == list(read.branch.tensors)


def test_tf1_parts_and_order() -> None:
    read = open_checkpoint(DATA / "tf1")
    assert {branch.name: (branch.role, list(branch.tensors)) for branch in read.branches if branch.name != "ema"} == {
        "model": (
            "model",
            ["big/table", "conv/biases", "conv/weights", "conv_2/BatchNorm/gamma", "conv_2/BatchNorm/moving_mean", "conv_10/weights"],
        ),
        "optimizer": ("optimizer", ["conv/biases/Momentum", "conv/weights/Momentum"]),
        "state": ("other", ["global_step"]),
    }
    assert (read.format, read.framework, read.metadata["global_step"]) == ("tf-bundle", "tensorflow", 1)
    assert not read.remarks


def test_the_ways_to_name_a_checkpoint(tmp_path: Path) -> None:
    index = DATA / "tf1" / "model.ckpt-1.index"
    for name in ("model.ckpt-1", "model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001", ""):
        assert open_checkpoint(DATA / "tf1" / name).path == index
    with pytest.raises(CheckpointError, match="no such file"):
        open_checkpoint(DATA / "tf1" / "model.ckpt-2")
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    for part in ("index", "data-00000-of-00001"):
        shutil.copy(DATA / "tf1" / f"model.ckpt-1.{part}", tmp_path / "saved" / "variables" / f"variables.{part}")
        shutil.copy(DATA / "tf1" / f"model.ckpt-1.{part}", tmp_path / f".{part}")
    assert len(open_checkpoint(tmp_path / "saved").branch.tensors) == 6
    assert open_checkpoint(tmp_path).path.name == ".index"  # an empty basename


def test_state_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, [HEADER, GOOD]).rename(tmp_path / f"m-{number}.index")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/who/ever/m-2"\nall_model_checkpoint_paths: "m-1"\n')
    assert open_checkpoint(tmp_path).path == tmp_path / "m-2.index"
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/m-2"\n')
    with pytest.raises(CheckpointError, match="holds neither"):
        open_checkpoint(tmp_path / "inner")


def test_missing_shard(tmp_path: Path) -> None:
    shutil.copy(DATA / "tf1" / "model.ckpt-1.index", tmp_path)
    read = open_checkpoint(tmp_path / "model.ckpt-1.index")
    assert len(read.branch.tensors) == 6
    assert "'model.ckpt-1.data-00000-of-00001' is missing" in read.remarks[0]
    with pytest.raises(ValuesUnavailableError, match="missing"):
        read.read("conv/weights")
    with pytest.raises(ValuesUnavailableError, match="missing"):
        read.read("big/table")


def test_object_graph_that_is_missing_or_damaged(tmp_path: Path) -> None:
    shutil.copytree(DATA / "tf2", tmp_path / "tf2")
    (data,) = (tmp_path / "tf2").glob("*.data*")
    whole = data.read_bytes()
    start = whole.index(b"\x08\x01\x12\x05model")
    data.write_bytes(whole[: start - 2] + b"\xff" * 40 + whole[start + 38 :])
    read = open_checkpoint(tmp_path / "tf2")
    assert "named by their keys" in read.remarks[0]
    data.unlink()
    assert any("named by their keys" in remark for remark in open_checkpoint(tmp_path / "tf2").remarks)


# --- what nobody should write -----------------------------------------------------------------------------------------------------------

REFUSED = {
    "no header": ([GOOD], "no header"),
    "header is nonsense": ([(b"", b"\xff\xff"), GOOD], "header"),
    "many shards": ([(b"", field(1, 2**31 - 1)), GOOD], "claims 2,147,483,647 shards"),
    "negative shards": ([(b"", field(1, -1)), GOOD], "claims -1 shards"),
    "byte order": ([(b"", field(1, 1) + field(2, 7)), GOOD], "byte order 7"),
    "dtype 0": ([HEADER, (b"w", tensor(0, (4,), 0, 16))], "'w'.*unknown dtype 0"),
    "dtype 99": ([HEADER, (b"w", tensor(99, (4,), 0, 16))], "'w'.*unknown dtype 99"),
    "negative size": ([HEADER, (b"w", tensor(1, (-4,), 0, 16))], "'w'.*negative size -4"),
    "impossible shape": ([HEADER, (b"w", tensor(1, (2**40, 2**40), 0, 16))], "'w'.*impossible shape"),
    "another size": ([HEADER, (b"w", tensor(1, (4,), 0, 12))], "'w'.*12 bytes for the shape"),
    "offset": ([HEADER, (b"w", tensor(1, (4,), 2**63 - 4, 16))], "'w'.*nothing can lie"),
    "negative offset": ([HEADER, (b"w", tensor(1, (4,), -16, 16))], "'w'.*nothing can lie"),
    "shard": ([HEADER, (b"w", tensor(1, (4,), 0, 16, shard=5))], "'w'.*shard 5 of 1"),
    "past the end": ([HEADER, (b"w", tensor(1, (400,), 0, 1600))], "'w' reaches to byte 1,600"),
    "rank": ([HEADER, (b"w", tensor(1, (1,) * 300, 0, 4))], "'w'.*254 dimensions"),
    "twice": ([HEADER, GOOD, GOOD], "'w' twice"),
    "not sorted": ([HEADER, GOOD, (b"a", GOOD[1])], "not sorted"),
    "text for a number": ([HEADER, (b"w", field(2, field(2, field(1, b"x"))))], "'w'.*text in field 1"),
    "slice past": ([HEADER, (b"w", tensor(1, (8,), 0, 0, slices=[field(1, field(1, 6) + field(2, 4))]))], "'w' that reaches past"),
    "slice missing": ([HEADER, (b"w", tensor(1, (8,), 0, 0, slices=[field(1, field(2, 8))]))], "lacks a slice of 'w'"),
    "slice of another rank": ([HEADER, (b"w", tensor(1, (8,), 0, 0, slices=[field(1, b"") * 2]))], "'w' of another rank"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    pairs, words = REFUSED[case]
    with pytest.raises(CorruptCheckpointError, match=words):
        open_checkpoint(write(tmp_path, pairs))


def test_slices_are_put_together(tmp_path: Path) -> None:
    extents = [((0, 4), (0, -1)), ((4, 4), (0, -1))]
    told = [field(1, field(1, a) + field(2, b)) + field(1, b"") for (a, b), _ in extents]
    pairs = [HEADER]
    pairs += [(_slice_key(b"w", extent), tensor(1, (4, 2), 32 * k, 32)) for k, extent in enumerate(extents)]
    pairs += [(b"w", tensor(1, (8, 2), 0, 0, slices=told))]
    values = np.arange(16, dtype="float32")
    read = open_checkpoint(write(tmp_path, pairs, values.tobytes()))
    assert read.read("w").tolist() == values.reshape(8, 2).tolist()
    pairs[2] = (pairs[2][0], tensor(1, (3, 2), 32, 24))
    with pytest.raises(CorruptCheckpointError, match="'w' of another shape"):
        open_checkpoint(write(tmp_path, pairs, values.tobytes()))


def test_big_endian(tmp_path: Path) -> None:
    values = np.arange(4, dtype=">f4")
    read = open_checkpoint(write(tmp_path, [(b"", field(1, 1) + field(2, 1)), GOOD], values.tobytes()))
    assert read.read("w").tolist() == [0, 1, 2, 3]


def test_overlapping_tensors_are_told(tmp_path: Path) -> None:
    read = open_checkpoint(write(tmp_path, [HEADER, (b"v", tensor(1, (4,), 8, 16)), GOOD]))
    assert read.remarks == ("1 tensors overlap others in the data, the first 'w' and 'v'",)


def test_shard_that_is_no_regular_file(tmp_path: Path) -> None:
    path = write(tmp_path, [HEADER, GOOD], None)
    os.mkfifo(tmp_path / "x.data-00000-of-00001")
    assert "no regular file" in open_checkpoint(path).remarks[0]


def test_shard_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner", [HEADER, GOOD], None)
    (tmp_path / "elsewhere").write_bytes(bytes(16))
    (tmp_path / "inner" / "x.data-00000-of-00001").symlink_to("../elsewhere")
    assert "leaves the folder" in open_checkpoint(path).remarks[0]


def test_every_flipped_byte_of_the_index_is_noticed_or_harmless(tmp_path: Path) -> None:
    whole = (DATA / "tf1" / "model.ckpt-1.index").read_bytes()
    (tmp_path / "x.data-00000-of-00001").write_bytes((DATA / "tf1" / "model.ckpt-1.data-00000-of-00001").read_bytes())
    harmless = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 0x41
        (tmp_path / "x.index").write_bytes(flipped)
        with contextlib.suppress(CheckpointError):  # anything else is a failure
            open_checkpoint(tmp_path / "x.index")
            harmless += 1
    assert harmless < 60  # the empty meta index and the footer's padding, which nothing checks


def test_every_truncation_is_a_clean_refusal(tmp_path: Path) -> None:
    whole = (DATA / "tf1" / "model.ckpt-1.index").read_bytes()
    for length in range(1, len(whole)):
        (tmp_path / "x.index").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "x.index")


def literal(content: bytes) -> bytes:
    assert len(content) <= 60
    return bytes(((len(content) - 1) << 2,)) + content


SNAPPY = {
    "literal": (varint(5) + literal(b"abcde"), b"abcde"),
    "long literal": (varint(100) + bytes((60 << 2, 99)) + b"x" * 100, b"x" * 100),
    "copy, 1 byte": (varint(8) + literal(b"abcd") + bytes((0 << 2 | 1, 4)), b"abcdabcd"),
    "copy, 2 bytes": (varint(6) + literal(b"abc") + bytes((2 << 2 | 2, 3, 0)), b"abcabc"),
    "copy, 4 bytes": (varint(6) + literal(b"abc") + bytes((2 << 2 | 3, 3, 0, 0, 0)), b"abcabc"),
    "copy of itself": (varint(8) + literal(b"ab") + bytes((5 << 2 | 2, 2, 0)), b"abababab"),
}
BAD_SNAPPY = {
    "before the start": varint(8) + literal(b"abcd") + bytes((1, 9)),
    "offset 0": varint(8) + literal(b"abcd") + bytes((1, 0)),
    "longer than told": varint(3) + literal(b"abcd"),
    "shorter than told": varint(9) + literal(b"abcd"),
    "cut literal": varint(9) + bytes((60 << 2, 99)) + b"x",
    "cut copy": varint(9) + literal(b"abcd") + bytes((2,)),
    "bomb": varint(1 << 40) + literal(b"abcd"),
}


@pytest.mark.parametrize("case", SNAPPY)
def test_snappy(case: str) -> None:
    packed, plain = SNAPPY[case]
    assert unsnap(packed, 1000, ValueError) == plain


@pytest.mark.parametrize("case", BAD_SNAPPY)
def test_damaged_snappy(case: str) -> None:
    with pytest.raises(ValueError, match=r"damaged|would unpack"):
        unsnap(BAD_SNAPPY[case], 1000, ValueError)


def test_compressed_block() -> None:
    plain = block([HEADER, GOOD])
    packed = varint(len(plain)) + b"".join(literal(plain[k : k + 60]) for k in range(0, len(plain), 60))
    assert list(entries(table([HEADER, GOOD], packed=packed, kind=1), 1 << 20, ValueError)) == [HEADER, GOOD]
    with pytest.raises(ValueError, match="unknown compression 7"):
        list(entries(table([HEADER, GOOD], packed=packed, kind=7), 1 << 20, ValueError))


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283


def test_ordered_code_of_tensorflow() -> None:
    # One byte up to 63, then as many ones at the top as there are bytes, as TensorFlow's ordered_code.cc has it.
    known = {0: "80", 1: "81", 63: "bf", -1: "7f", -64: "40", 64: "c040", 8191: "dfff", 8192: "e02000", -65: "3fbf", 2**33: "fa00000000"}
    assert {value: _ordered(value).hex() for value in known} == known


@given(st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=2))
def test_ordered_code_keeps_order(pair: list[int]) -> None:
    low, high = sorted(pair)
    assert _ordered(low) <= _ordered(high)


@given(st.binary(max_size=300))
def test_any_bytes_before_the_magic_number_are_refused_cleanly(content: bytes) -> None:
    with pytest.raises(ValueError, match="has"):
        list(entries(content.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"), 1 << 20, ValueError))


# --- real files -------------------------------------------------------------------------------------------------------------------------


def test_musicnn(real: Path) -> None:
    read = open_checkpoint(real / "musicnn_MTT_vgg")
    assert sum(len(branch.tensors) for branch in read.branches) == 86
    slots = [name for name in read.with_branch("optimizer").branch.tensors if name.rpartition("/")[2] in ("Adam", "Adam_1")]
    assert len(slots) == 48
    assert sum(layer.kind == "batch_norm" for layer in read.graph.layers) == 6


def test_deeplab_index_alone(real: Path) -> None:
    for name in ("deeplabv3_mnv2_pascal.ckpt-30000.index", "deeplabv3_mnv2_pascal.ckpt-30000"):
        read = open_checkpoint(real / name)
        assert {branch.name: len(branch.tensors) for branch in read.branches} == {"model": 272, "optimizer": 164, "state": 1}
        assert sum(layer.kind == "batch_norm" for layer in read.graph.layers) == 54
        assert read.branch.tensors["logits/semantic/weights"].shape == (1, 1, 256, 21)
        assert "is missing" in read.remarks[0]
        with pytest.raises(ValuesUnavailableError, match="is missing"):
            read.read("logits/semantic/weights")
