"""A file of any size that is changed, shrinks or vanishes while it is read gives one line and exit code 3, and never a signal."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from tests.hostile.making import FOUR, block, field, stored, varint

ROOT = Path(__file__).parent.parent.parent
LARGE = 17 << 20  # files up to 16 MiB are taken into memory
STATE = {"small": torch.ones(4), "large": torch.zeros(LARGE // 4), "last": torch.ones(4)}


def _hdf5(path, **settings):
    with h5py.File(path, "w", **settings) as file:
        for name, value in STATE.items():
            file[name] = value.numpy()


def _keras(path):
    weights = path.with_suffix(".h5")
    _hdf5(weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
        archive.write(weights, "model.weights.h5")


def _onnx(path):
    tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in STATE.items()]
    nodes = [helper.make_node("Add", ["x", name], [f"{name}_out"]) for name in STATE]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, [4])], [], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def _bundle(path):
    """A TensorFlow index whose blocks lie behind 17 MiB that no handle refers to."""
    place = field(1, 1) + field(2, field(2, field(1, 4))) + field(5, 16)
    first = stored(block([(b"", field(1, 1) + field(3, field(1, 1))), (b"w", place)]))
    handles = stored(block([(b"\xff", varint(LARGE) + varint(len(first) - 5))]))
    footer = varint(0) + varint(0) + varint(LARGE + len(first)) + varint(len(handles) - 5)
    path.write_bytes(bytes(LARGE) + first + handles + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"))
    path.with_suffix(".data-00000-of-00001").write_bytes(FOUR)


#: File → how it is written: one for each reader, by the way that it takes to its bytes.
FILES = {
    "zip.pth": lambda path: torch.save(STATE, path),
    "legacy.pth": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "arrays.pkl": lambda path: path.write_bytes(pickle.dumps({name: value.numpy() for name, value in STATE.items()}, 4)),
    "a.safetensors": lambda path: save_file(STATE, path),
    "plain.h5": _hdf5,
    "library.h5": lambda path: _hdf5(path, libver="latest"),
    "a.keras": _keras,
    "a.onnx": _onnx,
    "a.index": _bundle,
    "tiny.safetensors": lambda path: save_file({"w": torch.ones(4)}, path),
    "tiny.pth": lambda path: torch.save({"w": torch.ones(4)}, path),
}
SHOW, SCAN, DIFF = ["show"], ["scan", "-q"], ["diff", "--against"]
#: Verb and change, tried at the first and the last of the verb's reads.
TRIED = [(SHOW, "cut"), (SHOW, "written"), (SCAN, "emptied"), (SCAN, "replaced"), (SCAN, "deleted"), (DIFF, "cut")]


def _run(folder, cases):
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "tests.hostile.change_while_read", folder / "cases.json", folder / "results.json"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (ran.returncode, ran.stderr[-2000:])
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    for name, write in FILES.items():
        write(folder / name)
    tried = [(name, verb, change) for name in FILES for verb, change in TRIED]

    def case(name, verb, change, at):
        against = [str(folder / "tiny.pth")] if verb is DIFF else []
        return {"file": str(folder / name), "arguments": [*verb, *against], "change": change, "at": at}

    verbs = {tuple(verb): verb for verb, _ in TRIED}
    kinds = [(name, verb) for name in FILES for verb in verbs]
    counted = dict(zip(kinds, _run(folder, [case(name, verbs[verb], "", 0) for name, verb in kinds]), strict=True))
    cases = [
        (name, verb, change, at)
        for name, verb, change in tried
        for at in sorted({1 if verb is SCAN else counted[name, tuple(verb)]["reads"] // 2 + 1, counted[name, tuple(verb)]["reads"]})
        if at <= counted[name, tuple(verb)]["reads"]
    ]
    results = _run(folder, [case(*told) for told in cases])
    return counted, list(zip(cases, results, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_is_told_of_in_one_line(outcomes, name):
    counted, results = outcomes
    assert all(call["code"] in (0, 1) and call["reads"] for (file, _), call in counted.items() if file == name), "it is read otherwise"
    seen = 0
    for (file, verb, change, at), call in results:
        if file != name:
            continue
        seen += 1
        told = (" ".join(verb), change, at, call)
        assert "Traceback" not in call["out"] + call["err"], told
        assert call["code"] == 3, told
        assert "changed while it was audited" in call["err"], told
        assert len(call["err"].splitlines()) == 1, told
    assert seen >= len(TRIED)
