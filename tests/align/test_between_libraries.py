"""Between Keras and torch: the order of a flattened map, and lookalikes that only the dataflow tells apart; by running both."""

import os

import numpy
import pytest
import torch
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

import ckptaudit

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


class Flattening(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(4 * 3 * 3 if order != "pooled" else 4, 5))
        self.order = order

    def forward(self, image):
        x = self.features(image)
        if self.order == "pooled":
            return self.classifier(x.mean((2, 3)))
        return self.classifier((x.permute(0, 2, 3, 1) if self.order == "channels last" else x).flatten(1))


class Whole(nn.Module):
    """A convolution over the whole map, where the other one has a dense layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Conv2d(4, 5, 3)

    def forward(self, image):
        return self.classifier(self.features(image)).flatten(1)


def flattening(order):
    keras.utils.clear_session(free_memory=False)
    image = keras.Input((8, 8, 3))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, activation="relu", name="stem")(image))
    x = keras.layers.GlobalAveragePooling2D()(x) if order == "pooled" else keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(5, name="head")(x))


def grouped():
    """A convolution in groups that its author called depthwise, as Keras' ConvNeXt does."""
    keras.utils.clear_session(free_memory=False)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 1, name="stem_conv")(image)
    x = keras.layers.Conv2D(6, 3, groups=6, name="block_depthwise_conv")(x)
    return keras.Model(image, keras.layers.Dense(5, name="head")(keras.layers.GlobalAveragePooling2D()(x)))


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv_dw, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Linear(6, 5)

    def forward(self, image):
        return self.head(self.conv_dw(self.stem(image)).mean((2, 3)))


def branches():
    """Two branches of equal layers, made in another order than in torch, joined by what is not symmetric."""
    keras.utils.clear_session(free_memory=False)
    image = keras.Input((8, 8, 3))
    trunk = keras.layers.Conv2D(4, 3, padding="same", name="trunk")(image)
    left = keras.layers.BatchNormalization(name="n1", epsilon=1e-5)(keras.layers.Conv2D(4, 1, name="p")(trunk))
    right = keras.layers.BatchNormalization(name="n2", epsilon=1e-5)(keras.layers.Conv2D(4, 1, name="q")(keras.layers.ReLU()(left)))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate()([right, trunk]))
    return keras.Model(image, keras.layers.Dense(3, name="head")(x))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3, padding=1)
        self.late_norm, self.late = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.early_norm, self.early = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, image):
        trunk = self.trunk(image)
        x = self.late_norm(self.late(self.early_norm(self.early(trunk)).relu()))
        return self.head(torch.cat([x, trunk], 1).mean((2, 3)))


def outputs(model, image):
    with torch.no_grad():
        if isinstance(model, keras.Model):
            return numpy.asarray(torch.as_tensor(model(image.permute(0, 2, 3, 1).numpy(), training=False)))
        return model.eval()(image).numpy()


def randomised(model):
    random = numpy.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1, weight.shape) for weight in model.get_weights()])
    return model


PAIRS = [
    pytest.param(lambda: flattening("last"), lambda: Flattening("channels first"), id="flattened in the other order"),
    pytest.param(lambda: flattening("last"), lambda: Flattening("channels last"), id="flattened in the same order"),
    pytest.param(lambda: flattening("pooled"), lambda: Flattening("pooled"), id="pooled"),
    pytest.param(lambda: flattening("last"), Whole, id="a convolution over the whole map"),
    pytest.param(grouped, Grouped, id="in groups, called depthwise"),
    pytest.param(branches, Branches, id="lookalikes"),
]


@pytest.mark.parametrize(("in_keras", "in_torch"), PAIRS)
def test_there_and_back(in_keras, in_torch, tmp_path):
    first, twin = randomised(in_keras()), in_torch()
    first.save(tmp_path / "first.keras")
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    ckptaudit.load(twin, tmp_path / "first.keras")
    assert any(not torch.equal(tensor, before[name]) for name, tensor in twin.state_dict().items())
    image = torch.rand(2, 3, 8, 8)
    numpy.testing.assert_allclose(outputs(twin, image), outputs(first, image), atol=1e-4)
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    second = in_keras()
    ckptaudit.load(second, tmp_path / "twin.pth", source_arch=twin)
    assert all(numpy.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def test_without_a_model_the_order_stays_open(tmp_path):
    """A state dict alone does not tell how its model flattens."""
    torch.save(Flattening("channels last").state_dict(), tmp_path / "twin.pth")
    found = ckptaudit.audit(tmp_path / "twin.pth", flattening("last"))
    assert not found.plan.safe
    assert not found.verdict.fit


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("wrote", "target"), [("timm:legacy_xception", "keras:Xception"), ("keras:Xception", "timm:legacy_xception")])
def test_lookalikes_of_published_models_are_decided(wrote, target, told, tmp_path):
    """No model is at hand: which one wrote the file is told, or is sure from its names and shapes; both are in the catalogue."""
    if wrote.startswith("timm"):
        path = tmp_path / "xception.pth"
        graph = ckptaudit.arch.build_model(wrote).graph
        torch.save({t.name: torch.zeros((), dtype=getattr(torch, t.dtype)).expand(t.shape) for t in graph}, path)
    else:
        path = tmp_path / "xception.weights.h5"
        keras.utils.clear_session(free_memory=False)
        keras.applications.Xception(weights=None, input_shape=(80, 80, 3)).save_weights(path)
    found = ckptaudit.audit(path, target, source_arch=wrote if told else None)
    assert [step.target for step in found.plan.steps if not step.sure] == []
    pairs = {(*step.sources, step.target) for step in found.plan.steps}
    for pair in (("block13_sepconv2_bn/gamma", "block12.rep.5.weight"), ("block2_sepconv1_bn/beta", "block1.rep.1.bias")):
        assert (pair if target.startswith("timm") else pair[::-1]) in pairs
    assert any("is sure to be" in remark for remark in found.model.remarks) == (not told)
