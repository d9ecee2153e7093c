"""A short run of every fuzz target, and every input that ever crashed; ``python tests/fuzz --minutes N`` runs for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError
from ckptaudit.read import open_checkpoint

_SECONDS = 1


@pytest.fixture(scope="module")
def seeds():
    return harness.seeds()


@pytest.mark.parametrize("target", harness.TARGETS)
def test_only_audits_and_errors_on_purpose(tmp_path, seeds, target):
    harness.companions(tmp_path)
    assert seeds[target]
    runs = []
    stop = harness.within(_SECONDS)
    crashes = list(harness.fuzz(target, tmp_path, seeds[target], 1, lambda n: len(runs) > 500 or stop(n), runs.append))
    assert [why for _, why in crashes] == []
    assert len(runs) >= 5


@pytest.mark.parametrize("target", harness.TARGETS)
def test_seeds_are_read(tmp_path, seeds, target):
    harness.companions(tmp_path)
    for data in seeds[target]:
        (tmp_path / harness.TARGETS[target][1]).write_bytes(data)
        harness.audit(tmp_path / harness.TARGETS[target][1])


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


def test_errors_are_one_line(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "a\\nb\\u001b[31m\\u202e"}}')
    with pytest.raises(CkptAuditError) as caught:
        open_checkpoint(index)
    assert str(caught.value).isprintable()
