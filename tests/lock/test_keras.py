"""Keras restores by place: the lock knows the places of a file, and ``check`` tells when a model's layers stand in another order."""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from click.testing import CliRunner

from ckptaudit.cli._commands import commands

MODEL = """
import keras

def build():
    keras.utils.clear_session(free_memory=False)
    x = image = keras.Input((4, 4, 4))
    for name in NAMES:
        x = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
        x = keras.layers.BatchNormalization(name=None if name.startswith("conv2d") else f"{name}_bn")(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling2D()(x)))
"""
CONTRACT = """
[tool.ckptaudit]
paths = ["."]
[[tool.ckptaudit.contracts]]
name = "released"
checkpoint = "{file}"
arch = "keras_chain_of_tests:build"
"""
MODULE = "keras_chain_of_tests"
NAMED, AUTOMATIC = ("a", "b"), ("conv2d", "conv2d_1")


@pytest.fixture
def call(tmp_path, monkeypatch):
    def run(*arguments, names):
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"{MODULE}.py").write_text(f"NAMES = {names}\n{MODEL}")
        sys.modules.pop(MODULE, None)
        return CliRunner().invoke(commands, list(map(str, arguments)))

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "none"))
    return run


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("names", "file", "outcome"),
    [
        (NAMED, "x.weights.h5", "with-plan"),
        (NAMED, "x.h5", "with-plan"),
        (AUTOMATIC, "x.weights.h5", "broken"),
        (AUTOMATIC, "x.keras", "broken"),
    ],
)
def test_layers_in_another_order(call, tmp_path, names, file, outcome):
    (tmp_path / "pyproject.toml").write_text(CONTRACT.format(file=file))
    made: dict[str, object] = {}
    exec(f"NAMES = {names}\n{MODEL}", made)
    model = made["build"]()
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, weight.shape) for weight in model.get_weights()])
    model.save_weights(tmp_path / file) if file == "x.weights.h5" else model.save(tmp_path / file)
    locked = call("lock", "--no-digest", names=names)
    assert locked.exit_code == 0, locked.output
    text = (tmp_path / "ckptaudit.lock").read_text()
    (tmp_path / file).unlink()  # from here on the lock is all that there is

    def found(order):
        report = json.loads(call("check", "--format", "json", names=order).stdout)
        (contract,) = report["contracts"]
        return contract["outcome"], {finding["rule"]: finding for finding in contract["findings"]}

    assert "keras-order" not in found(names)[1]
    assert found(names)[0] == "restores"
    reordered, findings = found(names[::-1])
    assert reordered == outcome
    order = findings["keras-order"]
    assert order["severity"] == "error"
    assert {f"{names[0]}/kernel", f"{names[1]}/kernel"} <= set(order["model"])
    kept = call("lock", "--no-digest", names=names)
    assert kept.exit_code == 0
    assert (tmp_path / "ckptaudit.lock").read_text() == text
