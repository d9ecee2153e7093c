"""Small Keras networks whose layers have equal shapes, and the files that Keras itself writes of them."""

import os
import warnings
from dataclasses import dataclass, field

os.environ.setdefault("KERAS_BACKEND", "torch")

WEIGHTS, LEGACY, WHOLE = "x.weights.h5", "x.h5", "x.keras"


@dataclass(frozen=True)
class Chain:
    """Convolutions of equal shape under these names, one behind the other, and a head."""

    names: tuple[str, ...] = ("a", "b", "c")
    classes: int = 3
    middle: bool = False
    attention: bool = False
    frozen: bool = False

    def build(self):
        import keras

        keras.utils.clear_session(free_memory=False)
        x = image = keras.Input((4, 4, 4))
        for name in self.names:
            x = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
            if self.frozen:
                x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        if self.attention:
            x = keras.layers.Reshape((16, 4))(x)
            x = keras.layers.GlobalAveragePooling1D()(keras.layers.MultiHeadAttention(2, 2, name="attention")(x, x))
        else:
            x = keras.layers.GlobalAveragePooling2D()(x)
        if self.middle:
            x = keras.layers.Dense(4, name="middle")(x)
        return keras.Model(image, keras.layers.Dense(self.classes, name="head")(x))


@dataclass(frozen=True)
class ChainFile:
    """A file of a chain with random values, written under one name and moved to another."""

    chain: Chain = field(default_factory=Chain)
    written: str = WEIGHTS
    named: str = ""
    moved: tuple[tuple[str, str], ...] = ()

    def write(self, folder):
        import h5py
        import numpy

        path, random = folder / self.written, numpy.random.default_rng(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras' own, and of how it converts between numpy and torch
            model = self.chain.build()
            model.set_weights([random.uniform(0.1, 1, weight.shape) for weight in model.get_weights()])
            model.save_weights(path) if self.written == WEIGHTS else model.save(path)
        if self.moved:
            with h5py.File(path, "a") as file:
                for old, new in self.moved:
                    file.move(old, new)
        return path.rename(folder / self.named) if self.named else path


#: As the attributes of this layer were called in other versions of Keras.
PRIVATE = tuple(
    (f"layers/multi_head_attention/{part}_dense", f"layers/multi_head_attention/_{part}_dense")
    for part in ("query", "key", "value", "output")
)
NUMBERED, LATER, SWAPPED = ("conv2d", "conv2d_1", "conv2d_2"), ("conv2d_1", "conv2d_2", "conv2d_3"), ("conv2d_1", "conv2d", "conv2d_2")
