"""LSTM and GRU between Keras and torch, by running both."""

import os

import numpy
import pytest
import torch
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

import ckptaudit
from ckptaudit.align.recurrent import recurrent_pairs
from ckptaudit.graph import LayerGraph, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own

CASES = [
    ("LSTM", {}, {}),
    ("GRU", {}, {}),
    ("LSTM", {"use_bias": False}, {"bias": False}),
    ("LSTM", {"both": True}, {"bidirectional": True}),
    ("GRU", {"layers": 2}, {"num_layers": 2}),
    ("GRU", {"layers": 3}, {"num_layers": 3}),
]


def in_keras(kind, both=False, layers=1, **options):
    keras.utils.clear_session(free_memory=False)
    x = given = keras.Input((7, 5))
    for number in range(layers):
        layer = getattr(keras.layers, kind)(6, return_sequences=True, name=f"rnn_{number}", **options)
        x = (keras.layers.Bidirectional(layer, name=f"both_{number}") if both else layer)(x)
    model = keras.Model(given, keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling1D()(x)))
    random = numpy.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape) * 0.5 for weight in model.get_weights()])
    return model


class InTorch(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 6, batch_first=True, **options)
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0].mean(1))


def same(model, twin):
    x = numpy.random.default_rng(1).normal(size=(2, 7, 5)).astype("float32")
    with torch.no_grad():
        numpy.testing.assert_allclose(torch.as_tensor(model(x)).numpy(), twin(torch.from_numpy(x)).numpy(), atol=1e-5)


@pytest.mark.parametrize(("kind", "options", "others"), CASES)
@pytest.mark.parametrize("form", ["weights.h5", "h5"])
def test_there_and_back(kind, options, others, form, tmp_path):
    model, twin, path = in_keras(kind, **options), InTorch(kind, **others).eval(), tmp_path / f"model.{form}"
    model.save_weights(path) if form == "weights.h5" else model.save(path)
    ckptaudit.load(twin, path)
    same(model, twin)
    torch.manual_seed(0)
    other = InTorch(kind, **others).eval()
    torch.save(other.state_dict(), tmp_path / "torch.pth")
    ckptaudit.load(model, tmp_path / "torch.pth")
    same(model, other)


def graph(framework, **shapes):
    return LayerGraph.from_tensors([TensorSpec(name, shape, "float32") for name, shape in shapes.items()], framework)


def test_what_torch_has_no_counterpart_for_is_not_paired():
    torch_gru = {"rnn.weight_ih_l0": (18, 5), "rnn.weight_hh_l0": (18, 6), "rnn.bias_ih_l0": (18,), "rnn.bias_hh_l0": (18,)}
    reset_before = {"gru/kernel": (5, 18), "gru/recurrent_kernel": (6, 18), "gru/bias": (18,)}
    assert not recurrent_pairs(graph("keras", **reset_before), graph("torch", **torch_gru))
    assert recurrent_pairs(graph("keras", **{**reset_before, "gru/bias": (2, 18)}), graph("torch", **torch_gru))


def test_two_equal_modules_are_not_sure():
    keras_side = {f"lstm_{n}/{w}": s for n in (0, 1) for w, s in {"kernel": (6, 24), "recurrent_kernel": (6, 24), "bias": (24,)}.items()}
    words = {"weight_ih_l0": (24, 6), "weight_hh_l0": (24, 6), "bias_ih_l0": (24,), "bias_hh_l0": (24,)}
    torch_side = {f"{name}.{w}": s for name in ("question", "answer") for w, s in words.items()}
    pairs = recurrent_pairs(graph("keras", **keras_side), graph("torch", **torch_side))
    assert len(pairs) == 8
    assert not any(pair.sure for pair in pairs.values())
