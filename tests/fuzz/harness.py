"""Targets, seeds, and what happens to one input: an audit, or a CkptAuditError. Anything else is a crash."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import sys
import time
from pathlib import Path

import mutators

ROOT = Path(__file__).parent.parent.parent
_SMALL = 700_000


def audit(path):
    """Everything that a command does with a file: read, graph, checks and values, both renderings."""
    from ckptaudit.errors import CkptAuditError
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import Options, render_checkpoint
    from ckptaudit.report._scan import render_scan
    from ckptaudit.scanning import Scan, scan_file

    try:
        found = scan_file(path)
        render_scan(Scan((found,)), "json", Options(), "warning")
        render_scan(Scan((found,)), "terminal", Options(), "warning")
        if path.suffix != ".pb":
            checkpoint = open_checkpoint(path)
            render_checkpoint(checkpoint, "json", Options())
            render_checkpoint(checkpoint, "terminal", Options())
    except CkptAuditError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017


def seeds():
    """Small whole files of every format, by target: the repository's own, made ones, and real ones where they are at hand."""
    import numpy as np
    import onnx
    import torch
    from onnx import helper, numpy_helper
    from safetensors.torch import save

    found = {name: [] for name in TARGETS}
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3), "bn.running_mean": torch.zeros(3), "n": torch.tensor(1)}
    whole = {"model": state, "epoch": 3, "args": {"lr": 0.1, "names": ["a", "b"]}, "optimizer": {"state": {}, "param_groups": []}}
    for value in (state, whole):
        for legacy in (False, True):
            out = io.BytesIO()
            torch.save(value, out, _use_new_zipfile_serialization=not legacy)
            found["torch-legacy" if legacy else "torch-zip"].append(out.getvalue())
    found["pickle"] += [pickle.dumps(whole, protocol) for protocol in (0, 1, 2, 4)]
    found["pickle"].append(pickle.dumps({"w": np.ones((2, 2), "f4"), "s": np.float64(1)}, 4))
    found["safetensors"].append(save(state, {"format": "pt"}))
    found["shards"] += [path.read_bytes() for path in sorted((ROOT / "sample_ckpts/tiny_unet_sharded").glob("*.json"))]
    found["tf-bundle"] += [path.read_bytes() for path in sorted((ROOT / "tests/data/keras").rglob("*.index"))]
    found["hdf5"] += [path.read_bytes() for path in sorted((ROOT / "tests/data/keras").rglob("*.h5"))]
    found["keras-zip"] += [path.read_bytes() for path in sorted((ROOT / "tests/data/keras").rglob("*.keras"))]
    weight = numpy_helper.from_array(np.ones((2, 2), "f4"), "c.weight")
    typed = helper.make_tensor("t", onnx.TensorProto.INT64, (3,), [1, -1, 2**40])
    branch = helper.make_graph([helper.make_node("Constant", [], ["k"], value=typed)], "b", [], [], [weight])
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["y"]),
        helper.make_node("If", ["y"], ["z"], then_branch=branch, else_branch=branch),
    ]
    outside = numpy_helper.from_array(np.ones(2, "f4"), "e")
    outside.ClearField("raw_data")
    outside.data_location = 1
    outside.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph(nodes, "g", [], [], [weight, typed, outside])
    found["onnx"].append(helper.make_model(graph, producer_name="p").SerializeToString())
    found["saved-model"].append(b"\x08\x01\x12\x14\x12\x12\x0a\x07\x0a\x01n\x12\x02Op\x0a\x07\x0a\x01n\x12\x02Op")
    real = Path(os.environ.get("CKPTAUDIT_REAL", "/nonexistent"))
    kinds = {"*.pt": "torch-legacy", "*.hdf5": "hdf5", "*.index": "tf-bundle", "*.jit": "torch-zip"}
    for pattern, target in kinds.items():
        found[target] += [path.read_bytes() for path in sorted(real.glob(pattern)) if path.stat().st_size < _SMALL]
    return found


#: Target: mutation, and the name that an input gets.
TARGETS = {
    "torch-zip": (mutators.zipped, "f.pth"),
    "torch-legacy": (mutators.pickled, "f.pth"),
    "pickle": (mutators.pickled, "f.pkl"),
    "safetensors": (mutators.safetensors, "f.safetensors"),
    "shards": (mutators.json_text, "model.safetensors.index.json"),
    "hdf5": (mutators.hdf5, "f.h5"),
    "keras-zip": (mutators.zipped, "f.keras"),
    "tf-bundle": (mutators.table, "ckpt-1.index"),
    "onnx": (mutators.protobuf, "f.onnx"),
    "saved-model": (mutators.protobuf, "saved_model.pb"),
}


def companions(folder):
    """Files that inputs may name, beside them."""
    for path in (ROOT / "sample_ckpts/tiny_unet_sharded").glob("*.safetensors"):
        shutil.copy(path, folder)
    for path in (ROOT / "tests/data/keras/tf2").glob("*.data-*"):
        shutil.copy(path, folder)
    (folder / "w.bin").write_bytes(bytes(8))


def fuzz(target, folder, seeds, seed, stop, before=lambda data: None):
    """Mutate and audit until ``stop(executions)``; yields the input, its error, for each crash."""
    mutate, name = TARGETS[target]
    choose = random.Random(seed)
    path = folder / name
    executions = 0
    pool = list(seeds)
    while not stop(executions):
        data = choose.choice(pool)
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            if data:
                data = mutate(data, choose)
        path.write_bytes(data)
        before(executions)
        executions += 1
        try:
            audit(path)
        except Exception as error:
            yield data, f"{type(error).__name__}: {error}"


def within(seconds):
    """A stop condition."""
    end = time.monotonic() + seconds
    return lambda executions: time.monotonic() >= end


def report(value):
    """One line of progress for whoever watches."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
