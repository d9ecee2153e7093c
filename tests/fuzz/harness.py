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
from functools import cache
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


def audit_export(path):
    """What is done with a graph beyond that: followed beside a model and a checkpoint of it, and asked how it is fed."""
    from ckptaudit.contract import make_contract
    from ckptaudit.errors import CkptAuditError
    from ckptaudit.pipeline import audit as judged
    from ckptaudit.read import open_checkpoint
    from ckptaudit.report import Options, render_audit
    from ckptaudit.report._contract import render_contract

    audit(path)
    try:
        checkpoint = open_checkpoint(path)
        made = make_contract(path.name, None, checkpoint)
        for output_format in ("json", "terminal"):
            render_contract(made, output_format, Options())
        for model, twin in _models():
            outcome = judged(checkpoint, model, twin=twin)
            for output_format in ("json", "terminal", "markdown"):
                render_audit(outcome, output_format, Options())
    except CkptAuditError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017


def _networks():
    """Small networks with what exporters write in ways of their own: folded BatchNorm, skips, groups, attention."""
    from torch import nn

    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1, groups=2)
            self.norm, self.up = nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 4, 2, 2)
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            import torch

            x = self.stem(x)
            y = self.norm(torch.cat([self.left(x), self.right(x)], 1)) + x
            return self.head(self.up(y).mean((2, 3))).softmax(1)

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            x = self.block(self.patches(x).flatten(2).transpose(1, 2))
            return self.head(x[:, -1])

    return {"skips": Skips, "words": Words}


_MADE = []


def _models():
    """Each network as a model whose computation is known, and a checkpoint of it."""
    import tempfile

    import torch

    from ckptaudit.arch import build_model, computing
    from ckptaudit.identification import index

    if not _MADE:
        folder = Path(tempfile.mkdtemp())
        follow, known = computing.with_computation, {}

        def followed(model, sizes=()):
            """Once for each size: it takes longer than all else."""
            key = model.module, tuple(map(tuple, sizes))
            if key not in known:
                known[key] = follow(model, sizes)
            return known[key]

        computing.with_computation = followed
        built = index._built
        once = cache(lambda entry, of, more: built(entry, of, dict(more)))
        index._built = lambda entry, of, more: once(entry, of, tuple(more.items()))
        for name, build in _networks().items():
            module = build().eval()
            torch.save(module.state_dict(), folder / f"{name}.pth")
            _MADE.append((build_model(module), folder / f"{name}.pth"))
    return _MADE


def _exports():
    """The networks as torch exports them, with names and without."""
    import tempfile

    sys.path.insert(0, str(ROOT))
    from tests.exports import export, with_statistics

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for build in _networks().values():
            for anonymous in (False, True):
                path = Path(folder) / "a.onnx"
                export(with_statistics(build()), path, (3, 16, 16), anonymous=anonymous, fold=anonymous)
                found.append(path.read_bytes())
    return found


def seeds():
    """Small whole files of every format, by target: the repository's own, made ones, and real ones where they are at hand."""
    import h5py
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
    newer = io.BytesIO()
    with h5py.File(newer, "w", libver="latest") as file:
        file["model_weights/a/kernel:0"] = np.ones((2, 3), "f4")
        file["model_weights/a"].attrs["weight_names"] = [b"kernel:0"]
        file["model_weights"].attrs["layer_names"] = [b"a"]
    found["hdf5"].append(newer.getvalue())
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
    found["onnx-graph"] += _exports()
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
    "onnx-graph": (mutators.onnx_graph, "f.onnx"),
    "saved-model": (mutators.protobuf, "saved_model.pb"),
}
#: What is done with an input where it is more than to read it.
AUDITS = {"onnx-graph": audit_export}


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
            AUDITS.get(target, audit)(path)
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
