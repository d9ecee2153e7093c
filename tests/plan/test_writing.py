"""Restored files in the formats of torch and Keras, read by torch and Keras themselves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import zipfile

import h5py
import numpy as np
import pytest
import torch

from ckptaudit.align import Alignment
from ckptaudit.align.ops import Permute, Reshape, Split
from ckptaudit.errors import OutputError, PlanError, UsageError
from ckptaudit.graph import LayerGraph
from ckptaudit.pipeline import audit
from ckptaudit.plan import make_plan
from ckptaudit.plan.writing import placing, write_restored
from ckptaudit.read import open_checkpoint
from ckptaudit.records import replace
from ckptaudit.scanning import scan_file
from tests.plan.helpers import every_kind, plan_for, step

DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("float8_e4m3fn", "float8_e5m2", "uint16", "uint32"),
)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_torch_file(tmp_path, suffix):
    plan, source = every_kind()
    torch.save({"state_dict": source}, tmp_path / "a.pth")
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).digest()
    plan = plan.named("a.pth", "my model", "state_dict")
    seen = []
    output = tmp_path / f"b{suffix}"
    written = write_restored(plan, tmp_path / "a.pth", output, progress=lambda done, total: seen.append((done, total)))
    wanted = plan.apply(source)
    for mapped in (False, True):
        loaded = torch.load(output, weights_only=True, mmap=mapped)
        assert list(loaded) == list(wanted)
        assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)
    assert all(torch.equal(torch.from_numpy(open_checkpoint(output).read(name)), wanted[name]) for name in wanted)
    assert seen[-1][0] == seen[-1][1] == sum(tensor.nbytes for tensor in wanted.values())
    assert written.nbytes == output.stat().st_size
    with zipfile.ZipFile(output) as archive:
        assert archive.testzip() is None
        about = json.loads(archive.read("archive/ckptaudit.json"))
        offsets = [info.header_offset + 30 + len(info.filename) for info in archive.infolist() if "/data/" in info.filename]
    assert (about["source"], about["target"], about["plan"]) == ("a.pth", "my model", plan.fingerprint)
    assert open_checkpoint(output).metadata == about
    assert scan_file(output).findings == ()
    assert len(offsets) == len(wanted)
    assert hashlib.sha256((tmp_path / "a.pth").read_bytes()).digest() == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.pth", output.name])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_many_tensors_at_a_time(tmp_path, monkeypatch, suffix):
    """Tensors of several pieces, transposed or parts of others or as they are, where writing takes longer than reading and laying out."""
    put = placing._Writer._put
    monkeypatch.setattr(placing._Writer, "_put", lambda *arguments: (time.sleep(0.005), put(*arguments))[1])
    source = {f"{i}.kernel": torch.rand(3, 3, 256, 512 + 64 * i) for i in range(4)} | {
        "fused": torch.rand(9, 300_000),
        "none": torch.rand(0, 3),
    }
    torch.save(source, tmp_path / "a.pth")
    steps = [step(f"{i}.weight", f"{i}.kernel", [Permute((3, 2, 0, 1))]) for i in (0, 3, 1, 2)]
    steps += [step(f"part.{i}", "fused", [Split(0, i, 3)]) for i in range(3)]
    steps += [
        step("whole", "fused"),
        step("same", "2.kernel"),
        step("none", "none", [Permute((1, 0))]),
        step("row", "fused", [Reshape((27, 100_000))]),
    ]
    plan = plan_for(steps, source)
    write_restored(plan, tmp_path / "a.pth", tmp_path / f"b{suffix}")
    result = open_checkpoint(tmp_path / f"b{suffix}")
    wanted = plan.apply(source)
    for name, tensor in wanted.items():
        assert torch.equal(torch.from_numpy(result.read(name)), tensor), name


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("packed", ["gzip", "deflated", "arrays"])
@pytest.mark.filterwarnings("ignore")
def test_values_that_do_not_lie_in_the_file_as_they_are(tmp_path, packed, suffix):
    """Tensors that only get another name are copied as bytes, but not from where they are packed, or part of a pickle."""
    if packed == "gzip":
        keras_network().save_weights(tmp_path / "plain.weights.h5")
        plain, path = tmp_path / "plain.weights.h5", tmp_path / "a.weights.h5"
        with h5py.File(plain) as old, h5py.File(path, "w") as new:

            def packed_copy(name, item):
                if isinstance(item, h5py.Group):
                    new.require_group(name).attrs.update(item.attrs)
                else:
                    new.create_dataset(name, data=item[()], compression="gzip", chunks=True)

            old.visititems(packed_copy)
        with pytest.raises(PlanError, match="does not lie in one piece"):
            write_restored(audit(plain, path).plan, plain, tmp_path / "out.weights.h5", like=path)
    elif packed == "deflated":
        keras_network().save(tmp_path / "plain.keras")
        plain, path = tmp_path / "plain.keras", tmp_path / "a.keras"
        with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    else:
        plain, path = tmp_path / "plain.pth", tmp_path / "a.pth"
        values = {"one": torch.rand(20, 30), "two": torch.rand(50)}
        torch.save(values, plain)
        torch.save({name: value.numpy() for name, value in values.items()}, path)
    checkpoint, wanted = open_checkpoint(path), open_checkpoint(plain)
    names = {name: f"new.{number}" for number, name in enumerate(checkpoint.graph.tensors)}
    steps = [step(new, old) for old, new in names.items()]
    alignment = Alignment({each.target: each for each in steps}, (), ())
    target = LayerGraph.from_tensors(replace(spec, name=names[spec.name]) for spec in checkpoint.graph)
    write_restored(make_plan(alignment, checkpoint.graph, target), path, tmp_path / f"b{suffix}")
    found = open_checkpoint(tmp_path / f"b{suffix}")
    assert len(names) >= 2
    for name in wanted.graph.tensors:
        assert np.array_equal(found.read(names[name]), wanted.read(name)), name


def test_a_pipe(tmp_path):
    """Into a pipe tensors go in their order, by one thread; what has to be written in several places does not go there at all."""
    source = {f"{i}.kernel": torch.rand(300, 400 + i, 5) for i in range(9)} | {"same": torch.rand(2_000_000)}
    torch.save(source, tmp_path / "a.pth")
    plan = plan_for([step("same", "same"), *(step(f"{i}.weight", f"{i}.kernel", [Permute((2, 1, 0))]) for i in range(9))], source)
    write_restored(plan, tmp_path / "a.pth", tmp_path / "b.safetensors")
    for name in ("pipe.safetensors", "pipe.pth"):
        os.mkfifo(tmp_path / name)
    with subprocess.Popen(["cp", tmp_path / "pipe.safetensors", tmp_path / "c.safetensors"]):
        write_restored(plan, tmp_path / "a.pth", tmp_path / "pipe.safetensors")
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(OutputError, match="not written in one go"):
        write_restored(plan, tmp_path / "a.pth", tmp_path / "pipe.pth")


def test_dtypes_of_a_torch_file(tmp_path):
    source = {name: torch.arange(6).reshape(2, 3).remainder(2).to(getattr(torch, name)) for name in DTYPES}
    source |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "ünïcode 名": torch.ones(1)}
    torch.save(source, tmp_path / "a.pth")
    steps = [step(f"x.{name}", name) for name in source] + [step("t", "float32", [Permute((1, 0))])]
    write_restored(plan_for(steps, source), tmp_path / "a.pth", tmp_path / "b.pth")
    loaded = torch.load(tmp_path / "b.pth", weights_only=True)
    for name, tensor in source.items():
        found = loaded[f"x.{name}"]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert bytes(found.untyped_storage()) == bytes(tensor.contiguous().untyped_storage())
    assert torch.equal(loaded["t"], source["float32"].T)


def keras_network():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras.Sequential(
        [
            keras.layers.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False, name="first"),
            keras.layers.BatchNormalization(epsilon=1e-5, name="first_norm"),
            keras.layers.ReLU(),
            keras.layers.Conv2D(12, 3, name="second"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, name="scores"),
        ]
    )


@pytest.mark.filterwarnings("ignore")
def test_a_keras_file(tmp_path):
    """A torch checkpoint restored into a Keras model by Keras' own load_weights: outputs are equal."""
    torch.manual_seed(0)
    nn = torch.nn
    twin = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    twin.append(nn.Linear(12, 5))
    twin[1].running_mean.normal_()
    twin[1].running_var.uniform_(0.5, 2)
    twin.eval()
    torch.save(twin.state_dict(), tmp_path / "a.pth")
    network = keras_network()
    network.save_weights(tmp_path / "fresh.weights.h5")
    fresh = (tmp_path / "fresh.weights.h5").read_bytes()
    plan = audit(tmp_path / "a.pth", tmp_path / "fresh.weights.h5").plan
    assert (plan.complete, plan.safe) == (True, True)
    write_restored(plan, tmp_path / "a.pth", tmp_path / "out.weights.h5", like=tmp_path / "fresh.weights.h5")
    network.load_weights(tmp_path / "out.weights.h5")
    with h5py.File(tmp_path / "out.weights.h5") as file:
        about = json.loads(file.attrs["ckptaudit"])
    assert (about["source"], about["plan"]) == ("a.pth", plan.fingerprint)
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ours = np.asarray(network(image.permute(0, 2, 3, 1).numpy(), training=False).detach().cpu())
        np.testing.assert_allclose(ours, twin(image).numpy(), atol=1e-5)
    assert (tmp_path / "fresh.weights.h5").read_bytes() == fresh
    with pytest.raises(UsageError, match="--like"):
        write_restored(plan, tmp_path / "a.pth", tmp_path / "b.weights.h5")
    with pytest.raises(OutputError, match="never written to"):
        write_restored(plan, tmp_path / "a.pth", tmp_path / "fresh.weights.h5", like=tmp_path / "fresh.weights.h5", force=True)
    with pytest.raises(PlanError, match=r"no \.weights\.h5"):
        write_restored(plan, tmp_path / "a.pth", tmp_path / "b.weights.h5", like=tmp_path / "a.pth")
