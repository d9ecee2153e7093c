"""ONNX files without names beside a Keras model: its layers and the dataflow between them are known, which is enough."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch
from torch import nn

import ckptaudit
from tests.exports import export, with_statistics

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras, within itself


def of_keras(flat, classes=5):
    import keras
    from keras import layers

    keras.utils.clear_session(free_memory=False)
    x = image = keras.Input((16, 16, 3))
    x = skipped = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.SeparableConv2D(12, 3, padding="same")(layers.Add()([x, skipped]))
    x = layers.Conv2DTranspose(6, 2, 2)(x)
    x = layers.Flatten()(x) if flat else layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes)(x))


class OfTorch(nn.Module):
    """The same network in torch."""

    def __init__(self, flat):
        super().__init__()
        torch.manual_seed(0)
        self.flat = flat
        self.a, self.an = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.b, self.bn = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.c, self.cn = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.d, self.e = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 12, 1)
        self.f = nn.ConvTranspose2d(12, 6, 2, 2)
        self.head = nn.Linear(6 * 32 * 32 if flat else 6, 5)

    def forward(self, x):
        x = skipped = self.an(self.a(x)).relu()
        x = self.cn(self.c(self.bn(self.b(x)).relu())) + skipped
        x = self.f(self.e(self.d(x)))
        return self.head(x.flatten(1) if self.flat else x.mean((2, 3)))


@pytest.fixture
def exported(tmp_path):
    return lambda flat: export(with_statistics(OfTorch(flat)), tmp_path / "m.onnx", (3, 16, 16), anonymous=True)


def test_every_layer_is_found_and_the_outputs_are_the_same(exported):
    path, model = exported(False), of_keras(False)
    audit = ckptaudit.audit(path, model)
    assert (audit.verdict.status, audit.verdict.fit) == ("remappable", True), audit.verdict.summary
    assert {finding.rule for finding in audit.findings} == {"folded-export", "renamed-layers"}
    ckptaudit.load(model, path)
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    with torch.no_grad():
        wanted = with_statistics(OfTorch(False))(torch.from_numpy(images)).numpy()
        given = model(images.transpose(0, 2, 3, 1)).cpu().numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_the_order_of_a_flattened_map_stays_open(exported):
    audit = ckptaudit.audit(exported(True), of_keras(True))
    assert {step.target for step in audit.plan.steps if step.grade == "ambiguous"} == {"dense/kernel"}
    assert not audit.verdict.fit


def test_another_head(exported):
    audit = ckptaudit.audit(exported(False), of_keras(False, classes=7))
    assert set(audit.mismatched) == {"dense/kernel", "dense/bias"}
    assert "num-classes" in {finding.rule for finding in audit.findings}
