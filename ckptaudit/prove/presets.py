"""The usual ways to turn pixels into a network's input, each under a name that can be typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.preprocessing import Channels, Preprocessing

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

_BYTE = 1 / 255

#: ImageNet's mean and deviation are those of torchvision's weights, Caffe's means those of VGG (Simonyan & Zisserman 2014), in BGR.
PRESETS: Mapping[str, Preprocessing] = {
    "imagenet": Preprocessing(
        "ImageNet mean and standard deviation", channels="RGB", scale=_BYTE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    "-1..1": Preprocessing("-1 … 1", channels="RGB", scale=_BYTE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "0..1": Preprocessing("0 … 1", channels="RGB", scale=_BYTE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "0..255": Preprocessing("0 … 255", channels="RGB", scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "caffe": Preprocessing("Caffe means in BGR", channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)),
}


def flipped(preprocessing: Preprocessing) -> Preprocessing:
    """The same with the colours in the other order: the numbers stay with their colours."""
    from ckptaudit.records import replace

    other: Channels = "RGB" if preprocessing.channels == "BGR" else "BGR"
    return replace(
        preprocessing,
        source=f"{preprocessing.source}, {other}",
        channels=other,
        mean=None if preprocessing.mean is None else preprocessing.mean[::-1],
        std=None if preprocessing.std is None else preprocessing.std[::-1],
    )


def prepared(pixels: Array, preprocessing: Preprocessing) -> Array:
    """Pixels as a network's input.

    Parameters
    ----------
    pixels:
        (images, height, width, channels), 0 to 255, colours as RGB.
    preprocessing:
        What it leaves open is RGB, from 0 to 1, mean 0, deviation 1.

    Returns
    -------
    numpy.ndarray
        (images, channels, height, width), single precision.
    """
    import numpy

    if preprocessing.channels == "BGR":
        pixels = pixels[..., ::-1]
    channels = pixels.shape[-1]
    scale = _BYTE if preprocessing.scale is None else preprocessing.scale
    mean, std = (_of_channels(values, channels, otherwise) for values, otherwise in ((preprocessing.mean, 0.0), (preprocessing.std, 1.0)))
    values = (pixels.astype(numpy.float32) * numpy.float32(scale) - mean) / std
    return numpy.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _of_channels(values: tuple[float, ...] | None, channels: int, otherwise: float) -> Array:
    """One number for each channel; for a grey image the mean of the colours' numbers."""
    import numpy

    if values is None:
        return numpy.full(channels, otherwise, numpy.float32)
    if len(values) != channels:
        return numpy.full(channels, sum(values) / len(values), numpy.float32)
    return numpy.array(values, numpy.float32)
