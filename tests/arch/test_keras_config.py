"""``--arch self``: what a Keras file describes is rebuilt, and nothing of the file's is run."""

from __future__ import annotations

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

import ckptaudit
from ckptaudit.arch.keras_build import import_keras
from ckptaudit.errors import ArchitectureError, UsageError
from ckptaudit.pipeline import model_of_own_config
from ckptaudit.read import open_checkpoint
from tests.conftest import ROOT

keras = import_keras()
pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own
DATA = ROOT / "tests" / "data" / "keras"


@pytest.mark.parametrize("name", ["small_full.h5", "small.keras", "sequence.keras"])
def test_a_full_file_fits_what_it_describes(name):
    found = ckptaudit.audit(DATA / name, "self")
    assert (found.model.arch, found.model.source) == ("self", "self")
    # Their values are random, variances too; the layers of a model within a model are called after that in the file alone.
    assert {finding.rule for finding in found.findings} <= {"bn-invalid", "renamed-layers"}
    assert all(finding.severity == "note" for finding in found.findings if finding.rule == "renamed-layers")
    assert found.coverage.tensors[0] == found.coverage.tensors[1] == len(found.checkpoint.graph)
    assert all(weight._value is None for weight in found.model.module.weights)


def with_layer(folder, **layer):
    """A full file with one layer more in its config."""
    path = folder / "changed.h5"
    shutil.copy(DATA / "small_full.h5", path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        inside = {"name": "strange", **layer.pop("config", {})}
        config["config"]["layers"].append({"name": "strange", "inbound_nodes": [], **layer, "config": inside})
        file.attrs["model_config"] = json.dumps(config)
    return path


MARSHALLED = ["4wEAAAAAAAAAAAAAAAAAAAA=\n", None, None]
REFUSED = [
    pytest.param({"class_name": "Lambda", "config": {"function": MARSHALLED}}, "holds a Lambda layer 'strange'", id="lambda"),
    pytest.param({"class_name": "Dense", "module": "os", "registered_name": "os>system"}, "names the class 'os.Dense'", id="module"),
    pytest.param({"class_name": "mine>Layer"}, "custom object 'mine>Layer'", id="registered"),
    pytest.param({"class_name": "MyAttention"}, "the layer class 'MyAttention', which Keras does not have", id="unknown class"),
    pytest.param({"class_name": "CuDNNLSTM"}, "`strange` is a CuDNNLSTM, which is no layer of Keras", id="class of an older Keras"),
    pytest.param({"class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}}, "loads a SavedModel", id="SavedModel"),
    pytest.param({"class_name": "Dense", "config": {"units": "many"}}, "self raised", id="nonsense"),
]


@pytest.mark.parametrize(("layer", "words"), REFUSED)
def test_code_and_strangers_are_refused_in_one_line(layer, words, tmp_path, run):
    path = with_layer(tmp_path, **{key: dict(value) if isinstance(value, dict) else value for key, value in layer.items()})
    with pytest.raises(ArchitectureError) as caught:
        ckptaudit.audit(path, "self")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    if layer["class_name"] == "Lambda":
        result = run("diff", path, "--arch", "self")
        assert result.returncode == 3
        assert (result.stderr.count("\n"), "Lambda" in result.stderr) == (1, True)


def test_a_file_that_describes_nothing(tmp_path):
    with pytest.raises(ArchitectureError, match=r"^self: small\.weights\.h5 does not describe its model"):
        ckptaudit.audit(DATA / "small.weights.h5", "self")
    with pytest.raises(UsageError):
        ckptaudit.audit(DATA / "small.keras", "self", arguments={"classes": 3})


@pytest.mark.skipif("CKPTAUDIT_REAL" not in os.environ, reason="CKPTAUDIT_REAL is not set")
def test_a_trained_file_of_keras_2_restores_into_what_it_describes_and_computes_what_a_port_does():
    from pathlib import Path

    path = Path(os.environ["CKPTAUDIT_REAL"], "fer_emotion_model.hdf5")
    model = model_of_own_config(open_checkpoint(path), real=True).module
    before = [np.array(value) for value in model.get_weights()]
    found = ckptaudit.load(model, path)
    assert (found.verdict.status, found.coverage.tensors) == ("compatible", (80, 80))
    assert not all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    images = np.random.default_rng(0).random((4, 64, 64, 1), "float32") * 2 - 1
    given = keras.ops.convert_to_numpy(model(images, training=False))
    ported = port(path, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert given.std() > 0.01
    np.testing.assert_allclose(given, ported.numpy(), atol=1e-5)


def port(path, images):
    """The network of a legacy file written down once more, in torch and from the file alone: no Keras, no ckptaudit."""
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])["config"]
        stored = {
            name: [torch.from_numpy(group[w][()]) for w in group.attrs["weight_names"]]
            for name, group in file["model_weights"].items()
            if len(group.attrs.get("weight_names", ()))
        }
    layers = config["layers"]
    if isinstance(layers[-1]["config"].get("layers"), list):
        layers = layers[-1]["config"]["layers"]
    values = {}
    for layer in layers:
        own, kind = layer["config"], layer["class_name"]
        nodes = layer["inbound_nodes"]
        inputs = [values[node[0]] for node in nodes[0]] if nodes else [images]
        weights = stored.get(layer["name"], [])
        values[layer["name"]] = x = apply(kind, own, weights, inputs)
    return x


def apply(kind, own, weights, inputs):
    x = inputs[0]
    match kind:
        case "InputLayer":
            return x
        case "Conv2D":
            x = padded(x, weights[0].shape[:2], own)
            return functional.conv2d(x, weights[0].permute(3, 2, 0, 1), weights[1] if own["use_bias"] else None, own["strides"])
        case "SeparableConv2D":
            depth = weights[0].permute(2, 3, 0, 1)
            x = functional.conv2d(padded(x, depth.shape[2:], own), depth, stride=own["strides"], groups=len(depth))
            return functional.conv2d(x, weights[1].permute(3, 2, 0, 1), weights[2] if own["use_bias"] else None)
        case "BatchNormalization":
            gamma, beta, mean, variance = weights
            return functional.batch_norm(x, mean, variance, gamma, beta, eps=own["epsilon"])
        case "MaxPooling2D":
            return functional.max_pool2d(padded(x, own["pool_size"], own, -torch.inf), own["pool_size"], own["strides"])
        case "Add":
            return sum(inputs)
        case "Activation":
            return {"relu": torch.relu, "softmax": lambda x: x.softmax(1)}[own["activation"]](x)
        case "GlobalAveragePooling2D":
            return x.mean((2, 3))
    raise AssertionError(kind)


def padded(x, kernel, own, value=0.0):
    """TensorFlow's ``same``: as much as is needed, the larger half behind."""
    if own["padding"] == "valid":
        return x
    sides = []
    for size, length, stride in zip(x.shape[:1:-1], reversed(list(kernel)), reversed(own["strides"]), strict=True):
        needed = max((-(-size // stride) - 1) * stride + length - size, 0)
        sides += [needed // 2, needed - needed // 2]
    return functional.pad(x, sides, value=value)
