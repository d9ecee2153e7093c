"""A short run of every fuzz target, and every input that ever crashed; ``python tests/fuzz --minutes N`` runs for longer."""

from __future__ import annotations

import sys
from pathlib import Path
from struct import pack

import h5py
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError, ValuesUnavailableError
from ckptaudit.read import open_checkpoint
from tests.read.test_hdf5_plain import mended

_SECONDS = 1


@pytest.fixture(scope="module")
def seeds():
    return harness.seeds()


@pytest.mark.parametrize("target", harness.TARGETS)
def test_only_audits_and_errors_on_purpose(tmp_path, seeds, target):
    harness.companions(tmp_path)
    assert seeds[target]
    (tmp_path / harness.TARGETS[target][1]).write_bytes(seeds[target][0])
    harness.AUDITS.get(target, harness.audit)(tmp_path / harness.TARGETS[target][1])  # what is imported and built is no part of the second
    runs = []
    stop = harness.within(_SECONDS)
    crashes = list(harness.fuzz(target, tmp_path, seeds[target], 1, lambda n: len(runs) > 500 or stop(n), runs.append))
    assert [why for _, why in crashes] == []
    assert len(runs) >= (1 if target in harness.AUDITS else 5)


@pytest.mark.parametrize("target", harness.TARGETS)
def test_seeds_are_read(tmp_path, seeds, target):
    harness.companions(tmp_path)
    for data in seeds[target]:
        (tmp_path / harness.TARGETS[target][1]).write_bytes(data)
        harness.AUDITS.get(target, harness.audit)(tmp_path / harness.TARGETS[target][1])


def _axis(graph, value):
    graph.node.add(op_type="Softmax", input=[graph.output[0].name], output=["end"]).attribute.append(
        onnx.helper.make_attribute("axis", value)
    )
    graph.output[0].name = "end"


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: _axis(graph, [1, 2]),
        lambda graph: _axis(graph, b"\xed\xa0\x80"),
        lambda graph: graph.input[0].type.tensor_type.shape.dim.add(dim_value=1 << 62),
        lambda graph: graph.ClearField("output"),
    ],
    ids=["an axis of numbers", "an axis of text", "an input of 2^62 values", "no output"],
)
def test_exports_that_contradict_themselves(tmp_path, seeds, change):
    """Found by fuzzing, but for the last: settings of the wrong kind, sizes that no machine has."""
    model = onnx.ModelProto.FromString(seeds["onnx-graph"][0])
    change(model.graph)
    onnx.save(model, tmp_path / "a.onnx")
    harness.audit_export(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000, "\\ud800", "é" * 200])
def test_shards_with_names_that_no_file_has(tmp_path, name):
    """Found by fuzzing: the system refuses to look such names up at all."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {{"w": "{name}"}}}}')
    with pytest.raises(CorruptCheckpointError, match="no name that a file can have"):
        open_checkpoint(index)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "[NaN]"])
def test_numbers_that_no_json_can_hold(tmp_path, number):
    """Found by fuzzing: Python reads them, and an output with them is no JSON."""
    harness.companions(tmp_path)
    text = (harness.ROOT / "sample_ckpts/tiny_unet_sharded/model.safetensors.index.json").read_text()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text.replace('"total_size":', f'"odd": {number}, "total_size":'))
    assert "odd" in open_checkpoint(index).metadata
    harness.audit(index)


def test_metadata_that_is_nested_deeper_than_outputs_can_follow(tmp_path):
    """Found by fuzzing."""
    harness.companions(tmp_path)
    text = (harness.ROOT / "sample_ckpts/tiny_unet_sharded/model.safetensors.index.json").read_text()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text.replace('"total_size":', f'"odd": {"[" * 480 + "]" * 480}, "total_size":'))
    found = open_checkpoint(index).metadata
    assert "…" in str(found["odd"])
    assert found["total_size"] > 0
    harness.audit(index)


@pytest.mark.parametrize("longer", [False, True], ids=["as it is", "of half a billion values"])
def test_chunks_that_claim_more_than_the_file_has(tmp_path, longer):
    """Found by fuzzing: libhdf5 takes as much memory as a chunk, or a dataset, says that it has."""
    path = tmp_path / "a.h5"
    most = 1 << 29
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=[1.0, 2.0, 3.0], maxshape=(most,), chunks=(4,), compression="gzip")
    content = bytearray(path.read_bytes())
    node = content.index(b"TREE\x01")  # of the chunks; the bytes of the first stand where its keys begin
    content[node + 24 : node + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    if longer:
        shape = content.index(pack("<QQ", 3, most))
        content[shape : shape + 8] = pack("<Q", most)
    path.write_bytes(content)
    read = open_checkpoint(path)
    assert [remark.rule for remark in read.remarks] == ["missing-values"]
    with pytest.raises(ValuesUnavailableError, match=r"claim 4,294,967,280 of the file"):
        read.read("w")
    harness.audit(path)


def test_a_chunk_that_claims_more_values_than_it_packs(tmp_path):
    """Not found by fuzzing, but by what it found: a chunk is unpacked whole, however few of its values there are."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("w", data=[1.0, 2.0, 3.0], maxshape=(70_000,), chunks=(70_000,), compression="gzip")
    content = bytearray(path.read_bytes())
    layout = content.index(b"\x02\x03" + (70_000).to_bytes(3, "little"))  # dimensions, and how many bytes each takes
    content[layout + 2 : layout + 5] = b"\xff\xff\xff"
    path.write_bytes(mended(bytes(content)))
    read = open_checkpoint(path)
    with pytest.raises(ValuesUnavailableError, match="134,217,720 bytes would be unpacked"):
        read.read("w")
    harness.audit(path)


def test_errors_are_one_line(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "a\\nb\\u001b[31m\\u202e"}}')
    with pytest.raises(CkptAuditError) as caught:
        open_checkpoint(index)
    assert str(caught.value).isprintable()
