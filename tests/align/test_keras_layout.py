"""Places that are derived from a catalogued model are those that Keras tells of the live one."""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from ckptaudit.align.keras_layout import derived_places
from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, Module, TensorSpec
from ckptaudit.graph.layouts import LEGACY


@pytest.mark.parametrize("name", ["ConvNeXtTiny", "EfficientNetB0", "MobileNet", "VGG16", "Xception"])
def test_derived_places_are_those_that_keras_tells(name):
    graph = build_model(f"keras:{name}", fresh=True).graph
    assert {layout: dict(places) for layout, places in graph.places.items()} == derived_places(graph)


def test_nothing_is_derived_where_a_layer_is_made_of_others():
    specs = [TensorSpec("lstm/lstm_cell/kernel", (3, 8), "float32")]
    modules = {"": Module("Sequential"), "lstm": Module("LSTM"), "lstm/lstm_cell": Module("LSTMCell")}
    assert not derived_places(LayerGraph.from_tensors(specs, "keras", modules=modules))


def test_in_a_model_within_a_model_legacy_files_have_what_is_trained_first():
    names = ["base/bn/gamma", "base/bn/moving_mean", "base/conv/kernel"]
    specs = [TensorSpec(name, (4,), "float32", "moving" in name) for name in names]
    modules = {
        "": Module("Functional"),
        "base": Module("Functional"),
        "base/bn": Module("BatchNormalization"),
        "base/conv": Module("Conv1D"),
    }
    assert derived_places(LayerGraph.from_tensors(specs, "keras", modules=modules))[LEGACY] == dict(
        zip([names[0], names[2], names[1]], ["0/0", "0/1", "0/2"], strict=True)
    )
