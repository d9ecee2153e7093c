"""A network of Keras that flattens a map, and the same in torch, and others that are nearly the same."""

from __future__ import annotations

import torch
from torch import nn


def of_keras():
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(image)))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(layers.MaxPooling2D()(x)))
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


class OfTorch(nn.Module):
    """Without the softmax, as torch has it."""

    def __init__(self, pooling=nn.MaxPool2d):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU())
        self.pool, self.hidden, self.head = pooling(2), nn.Linear(96, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(self.pool(self.stem(x)).flatten(1))))


def other_eps():
    model = OfTorch()
    model.stem[1].eps = 1e-5
    return model


def averaging():
    return OfTorch(nn.AvgPool2d)
