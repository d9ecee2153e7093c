"""A network whose layers Keras named itself, branch beside branch, restored into torch by the order in which they were made."""

import os
import re

import pytest
import torch
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

import ckptaudit
from ckptaudit.align.keras_creation import in_order_of_creation
from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


def keras_cell(x, **without):
    """Branches of different depth: Keras' files have them level by level, or class by class."""

    def conv(x, width, size):
        x = keras.layers.Conv2D(width, size, padding="same", use_bias=False)(x)
        return keras.layers.Activation("relu")(keras.layers.BatchNormalization(epsilon=1e-5, **without)(x))

    one = conv(x, 8, 1)
    two = conv(conv(x, 4, 1), 8, 3)
    three = conv(conv(conv(x, 4, 1), 8, 3), 8, 3)
    return keras.layers.Concatenate()([one, two, three])


def numbered(**without):
    keras.utils.clear_session(free_memory=False)
    image = keras.Input((8, 8, 3))
    x = keras_cell(keras_cell(keras_cell(image, **without), **without), **without)
    model = keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    for weight in model.weights:
        values = keras.random.uniform(weight.shape, 0.5, 1.5) if "variance" in weight.path else keras.random.normal(weight.shape)
        weight.assign(values)
    return model


def conv(inside, width, size):
    return nn.Sequential(nn.Conv2d(inside, width, size, padding="same", bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Cell(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.branch1 = conv(inside, 8, 1)
        self.branch2 = nn.Sequential(conv(inside, 4, 1), conv(4, 8, 3))
        self.branch3 = nn.Sequential(conv(inside, 4, 1), conv(4, 8, 3), conv(8, 8, 3))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x)], 1)


class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.Sequential(Cell(3), Cell(24), Cell(24))
        self.head = nn.Linear(24, 5)

    def forward(self, image):
        return self.head(self.cells(image).mean((2, 3)))


@pytest.mark.parametrize("name", ["m.weights.h5", "m.h5", "m.keras"])
@pytest.mark.parametrize("without", [{}, {"scale": False}, {"center": False}])
def test_the_order_of_making_finds_every_layer(tmp_path, name, without):
    source, target = numbered(**without), Twin().eval()
    path = tmp_path / name
    (source.save_weights if name == "m.weights.h5" else source.save)(path)
    for norm in target.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.zeros_(norm.weight)  # as some networks begin; a file without a scale means ones
            nn.init.ones_(norm.bias)
    plan = ckptaudit.audit(path, target).plan
    assert plan.complete, plan.initial
    if "center" in without and name == "m.weights.h5":  # the numbers of three variables do not tell which of two is there
        unsure = {step.target for step in plan.steps if not step.sure}
        assert all({f"{path}.weight", f"{path}.bias"} <= unsure for path, m in target.named_modules() if isinstance(m, nn.BatchNorm2d))
        return
    target.load_state_dict(plan.apply(path, as_torch=True, allow_ambiguous=True), strict=False)
    image = torch.randn(2, 3, 8, 8)
    expected = source(keras.ops.convert_to_tensor(image.permute(0, 2, 3, 1).numpy()), training=False)
    wanted = torch.from_numpy(keras.ops.convert_to_numpy(expected))
    with torch.no_grad():
        torch.testing.assert_close(target(image), wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("without", [{"scale": False}, {"center": False}])
def test_a_guessed_scale_is_restored_by_nobody(tmp_path, suffix, without):
    """The same names on both sides, and one vector fewer in the file."""

    def model(**without):
        keras.utils.clear_session(free_memory=False)
        image = keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization(name="bn", **without)(keras.layers.Conv2D(4, 3, name="conv")(image))
        return keras.Model(image, keras.layers.Dense(3, name="fc")(keras.layers.GlobalAveragePooling2D()(x)))

    source, target = model(**without), model()
    source.set_weights([keras.random.uniform(weight.shape, 0.5, 1.5) for weight in source.weights])
    path = tmp_path / f"m{suffix}"
    (source.save_weights if suffix == ".weights.h5" else source.save)(path)
    image = keras.random.normal((2, 8, 8, 3))
    audit = ckptaudit.audit(path, target)
    if suffix == ".weights.h5":
        assert not audit.plan.safe
        with pytest.raises(ckptaudit.IncompatibleCheckpoint):
            ckptaudit.load(target, path)
        return
    ckptaudit.load(target, path)
    wanted, found = (keras.ops.convert_to_numpy(m(image, training=False)) for m in (source, target))
    assert abs(wanted - found).max() < 1e-4


@pytest.mark.parametrize("stray", ["scalar statistics", "no statistics", "another count"])
def test_odd_layers_stay_in_the_graph(stray):
    """Numbered layers that are no kernel and no normalisation as Keras writes them."""
    shapes = {
        "scalar statistics": {"batch_normalization/moving_mean": (), "batch_normalization/beta": (4,), "dense/kernel": (3, 4)},
        "no statistics": {"batch_normalization/gamma": (4,), "batch_normalization/moving_variance": (4,), "dense/kernel": (3, 4)},
        "another count": {"batch_normalization_3/moving_mean": (4,), "dense/kernel": (3, 4), "dense_9/kernel": (3, 4)},
    }[stray]
    graph = LayerGraph.from_tensors([TensorSpec(name, shape, "float32") for name, shape in shapes.items()], "keras")
    assert set(in_order_of_creation(graph).tensors) == set(graph.tensors)


def test_equal_branches_in_another_order_are_not_sure(tmp_path):
    """Two branches of one shape: which was written down first is nobody's knowledge."""

    class Swapped(Twin):
        def __init__(self):
            super().__init__()
            for cell in self.cells:
                cell.branch2, cell.branch3 = cell.branch3, cell.branch2

    path = tmp_path / "m.weights.h5"
    numbered().save_weights(path)
    plan = ckptaudit.audit(path, Swapped()).plan
    assert not plan.safe


class Attention(nn.Module):
    def __init__(self, *, fused, bias):
        super().__init__()
        parts = {"qkv": 18} if fused else {"query": 6, "key": 6, "value": 6}
        for name, width in parts.items():
            self.add_module(name, nn.Linear(6, width, bias=bias))
        self.out = nn.Linear(6, 7)


@pytest.mark.parametrize(
    ("file", "model", "unsure"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), ["0.weight"]),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)), ["1.weight"]),
        (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), nn.Sequential(nn.Conv2d(3, 4, 3)), []),
        (nn.Sequential(nn.LayerNorm(4)), nn.Sequential(nn.LayerNorm(4, bias=False)), ["0.weight"]),
        (Attention(fused=False, bias=True), Attention(fused=True, bias=False), ["qkv.weight"]),
        (nn.LSTM(3, 4), nn.LSTM(3, 4, bias=False), ["weight_ih_l0", "weight_hh_l0"]),
        (nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(nn.GroupNorm(2, 4)), ["0.weight"]),
        (nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(nn.InstanceNorm2d(4, affine=True)), []),
    ],
)
def test_a_layer_that_loses_its_bias_is_not_sure(tmp_path, file, model, unsure):
    path = tmp_path / "m.pth"
    torch.save(file.state_dict(), path)
    audit = ckptaudit.audit(path, model)
    assert [step.target for step in audit.plan.steps if not step.sure] == unsure
    if unsure:
        assert any(finding.rule == "unexpected-layers" and finding.severity == "warning" for finding in audit.findings)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ckptaudit.IncompatibleCheckpoint):
            ckptaudit.load(model, path)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    ("in_keras", "in_torch", "stage"),
    [
        ("keras:EfficientNetB0", "torchvision:efficientnet_b0", "features.{}.{}."),
        ("keras:EfficientNetV2B0", "timm:tf_efficientnetv2_b0", "blocks.{}.{}."),
    ],
)
def test_letters_behind_a_number_are_a_series(in_keras, in_torch, stage, back):
    """``block4c`` is the third block of the fourth stage; blocks of a stage have equal shapes, and only the letters tell them apart."""
    here, there = (build_model(name).graph for name in ((in_torch, in_keras) if back else (in_keras, in_torch)))
    plan = ckptaudit.propose(here, there)
    pairs = [(step.target, *step.sources) if back else (*step.sources, step.target) for step in plan.steps]
    lettered = [(old, new, found) for old, new in pairs if (found := re.match(r"block(\d)([a-z])_", old))]
    assert len(lettered) > 200
    first = 0 if stage.startswith("blocks") else 1
    for old, new, found in lettered:
        assert new.startswith(stage.format(int(found[1]) - 1 + first, ord(found[2]) - ord("a"))), (old, new)
    assert sum(step.sure for step in plan.steps) >= 0.98 * len(plan.steps)
