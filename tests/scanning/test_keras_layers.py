"""The layers that Keras has are known by name: none of them is taken for custom code."""

import inspect

import keras

from ckptaudit.read.keras_layers import LAYERS


def test_every_layer_of_the_installed_keras_is_known():
    assert {name for name, value in vars(keras.layers).items() if inspect.isclass(value)} <= LAYERS
