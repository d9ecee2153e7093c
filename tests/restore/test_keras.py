"""Keras models: the plan restores what Keras itself refuses or scrambles, and the guard catches what its loaders keep quiet about."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from torch import nn

import ckptaudit
from tests.conftest import ROOT

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


def build(classes: int = 5, names: tuple[str, str, str] = ("stem", "norm", "head"), dtype: str = "float32"):
    keras.utils.clear_session(free_memory=False)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, name=names[0], dtype=dtype)(image)
    x = keras.layers.BatchNormalization(name=names[1], dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, name=names[2], dtype=dtype)(x))


OTHER_NAMES = ("conv2d_7", "batch_normalization_7", "dense_7")


def same(model, weights) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


@pytest.fixture
def source():
    model, random = build(), np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(params=["weights.h5", "h5", "keras"])
def file(source, request, tmp_path):
    path = tmp_path / f"trained.{request.param}"
    if request.param == "weights.h5":
        source.save_weights(path)
    else:
        source.save(path)
    return path


@pytest.mark.parametrize("names", [("stem", "norm", "head"), OTHER_NAMES])
def test_load(file, names, source):
    model = build(names=names)
    variables = list(model.weights)
    assert ckptaudit.load(model, file).verdict.fit
    assert same(model, source.get_weights())
    assert all(a is b for a, b in zip(model.weights, variables, strict=True))
    assert ckptaudit.verify(model, file).verdict.fit


def test_load_refuses_and_changes_nothing(file):
    model = build(classes=3)
    before = model.get_weights()
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="5 classes and the model 3"):
        ckptaudit.load(model, file)
    assert same(model, before)
    with pytest.raises(ckptaudit.CkptAuditError, match="no tensor of the model is 'hed'"):
        ckptaudit.load(model, file, allow_missing=["hed"])
    ckptaudit.load(model, file, allow_missing=["head"])
    assert np.array_equal(model.get_weights()[-1], before[-1])
    assert not np.array_equal(model.get_weights()[0], before[0])


class Torch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3), nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.stem(image)).mean((2, 3)))


def test_a_file_of_torch_in_a_keras_model(tmp_path):
    torch.manual_seed(0)
    source = Torch().eval()
    with torch.no_grad():
        for tensor in (*source.parameters(), source.norm.running_mean, source.norm.running_var):
            tensor.uniform_(0.5, 1.5)
    torch.save(source.state_dict(), tmp_path / "torch.pth")
    model = build()
    ckptaudit.load(model, tmp_path / "torch.pth")
    image = torch.randn(2, 3, 16, 16)
    given = keras.ops.convert_to_numpy(model(image.permute(0, 2, 3, 1).numpy()))
    assert np.allclose(given, source(image).detach().numpy(), atol=1e-4)


@pytest.fixture
def legacy(source, tmp_path):
    source.save(tmp_path / "legacy.h5")
    source.save_weights(tmp_path / "new.weights.h5")
    return tmp_path


#: A load, the model's arguments, the guard's, and what the error says; None for one that is healthy.
LOADS = [
    pytest.param("new.weights.h5", {}, {}, {}, None, id="weights"),
    pytest.param("legacy.h5", {}, {}, {}, None, id="legacy"),
    pytest.param("legacy.h5", {"by_name": True}, {}, {}, None, id="by name"),
    pytest.param("legacy.h5", {}, {"names": OTHER_NAMES}, {}, None, id="by position, other names"),
    pytest.param("new.weights.h5", {"skip_mismatch": True}, {"classes": 3}, {"intent": "finetune"}, None, id="skipped head, to fine-tune"),
    pytest.param("legacy.h5", {"by_name": True}, {"names": OTHER_NAMES}, {}, "do not hold the file's values", id="by name, other names"),
    pytest.param("legacy.h5", {"by_name": True}, {"names": ("stem", "norm", "out")}, {}, "out", id="by name, other head"),
    pytest.param("new.weights.h5", {"skip_mismatch": True}, {"classes": 3}, {}, "5 classes and the model 3", id="skipped head"),
    pytest.param("legacy.h5", {"skip_mismatch": True, "by_name": True}, {"classes": 3}, {}, "5 classes", id="skipped head by name"),
]


@pytest.mark.parametrize(("file", "how", "arguments", "demand", "words"), LOADS)
def test_guard(file, how, arguments, demand, words, legacy, source):
    model = build(**arguments)
    before = model.get_weights()
    if words is None:
        with ckptaudit.guard(model, **demand) as watch:
            model.load_weights(legacy / file, **how)
        assert len(watch.audits) == 1
        assert np.array_equal(model.get_weights()[0], source.get_weights()[0])
    else:
        with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=words), ckptaudit.guard(model, **demand):
            model.load_weights(legacy / file, **how)
        assert same(model, before)
    assert "load_weights" not in vars(model)


def test_values_beyond_the_models_dtype(source, tmp_path):
    weights = source.get_weights()
    weights[0][1, 1, 1, 1] = 1e6
    source.set_weights(weights)
    source.save_weights(tmp_path / "large.weights.h5")
    model = build(dtype="float16")
    before = model.get_weights()
    refused = pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"1 values of `\S*stem\S*` are beyond what float16 holds\.")
    with refused, ckptaudit.guard(model):
        model.load_weights(tmp_path / "large.weights.h5")
    assert same(model, before)
    model.load_weights(tmp_path / "large.weights.h5")
    with refused:
        ckptaudit.verify(model, tmp_path / "large.weights.h5")


def test_guard_without_a_load():
    model = build()
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="never set"), ckptaudit.guard(model):
        pass


def test_guards_within_guards(legacy):
    model = build()
    with ckptaudit.guard(model) as outer, ckptaudit.guard(model, intent="finetune") as inner:
        model.load_weights(legacy / "new.weights.h5")
    assert (len(outer.audits), len(inner.audits)) == (1, 1)
    assert "load_weights" not in vars(model)


def test_a_part_may_lack_what_only_the_whole_has(source, tmp_path):
    """What may be missing is a part of the whole model; the model in it, which is loaded by itself, has no such part."""
    source.save_weights(tmp_path / "part.weights.h5")
    part = build(classes=3)
    image = keras.Input((16, 16, 3))
    whole = keras.Model(image, keras.layers.Dense(2, name="top")(part(image)))
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="5 classes"), ckptaudit.guard(whole, allow_missing=["top"]):
        part.load_weights(tmp_path / "part.weights.h5", skip_mismatch=True)
    with ckptaudit.guard(whole, allow_missing=["top", "head"]):
        part.load_weights(tmp_path / "part.weights.h5", skip_mismatch=True)
    assert np.array_equal(whole.get_weights()[0], source.get_weights()[0])
    with pytest.raises(ckptaudit.CkptAuditError, match="no tensor of the model is 'tip'"), ckptaudit.guard(whole, allow_missing=["tip"]):
        raise AssertionError("the block began")
    assert "load_weights" not in vars(whole)


def test_what_the_page_shows_runs(legacy):
    page = (ROOT / "docs" / "guard.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "load_weights" in block]
    exec(block, {"keras_model": build(), "path": legacy / "legacy.h5"})
