"""What becomes of an image before a model sees it, as a library states it for the weights that it offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

Fit = Literal["crop", "squash", "pad"]
Channels = Literal["RGB", "BGR"]
Layout = Literal["NCHW", "NHWC", "NCTHW"]


@dataclass(frozen=True)
class Preprocessing:
    """One statement of a library. ``None`` where it says nothing.

    A pixel from 0 to 255 becomes ``(pixel · scale - mean) / std``, channel by channel.

    Attributes
    ----------
    source:
        Who says so: ``torchvision ResNet50_Weights.IMAGENET1K_V2``, ``timm pretrained_cfg of resnet50.a1_in1k``.
    size:
        Height and width of what the model is given; None where any size will do.
    resize:
        The length of the shorter side, or height and width, to which an image is scaled first.
    fit:
        How an image of other proportions comes to ``size``: its middle is cut out, both sides are scaled, or it is put into a frame.
    interpolation:
        ``bilinear``, ``bicubic``, ``nearest`` …
    channels:
        The order of the colours.
    layout:
        The order of the axes: N batch, C channels, T time, H height, W width.
    scale:
        What a pixel is multiplied with.
    mean, std:
        One number for each channel, in the order of ``channels``.
    """

    source: str
    size: tuple[int, int] | None = None
    resize: tuple[int, ...] | None = None
    fit: Fit | None = None
    interpolation: str | None = None
    channels: Channels | None = None
    layout: Layout | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The statement as JSON values, every field by its name."""
        return {key: list(value) if isinstance(value, tuple) else value for key in self.__match_args__ for value in [getattr(self, key)]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        ValueError
            A field is missing, or is not what it should be; the message names it.
        """
        return cls(
            source=_checked(fields, "source", isinstance(fields.get("source"), str)),
            size=_numbers(fields, "size", int, (2,)),
            resize=_numbers(fields, "resize", int, (1, 2)),
            fit=_word(fields, "fit", get_args(Fit)),
            interpolation=_word(fields, "interpolation"),
            channels=_word(fields, "channels", get_args(Channels)),
            layout=_word(fields, "layout", get_args(Layout)),
            scale=_checked(fields, "scale", fields.get("scale") is None or _is(fields["scale"], float)),
            mean=_numbers(fields, "mean", float),
            std=_numbers(fields, "std", float),
        )


def _word(fields: Mapping[str, Any], key: str, known: tuple[str, ...] = ()) -> Any:
    value = fields.get(key)
    return _checked(fields, key, value is None or (isinstance(value, str) and (not known or value in known)))


def _numbers(fields: Mapping[str, Any], key: str, kind: type, lengths: tuple[int, ...] = ()) -> Any:
    value = fields.get(key)
    fits = value is None or (
        isinstance(value, list) and (not lengths or len(value) in lengths) and all(_is(number, kind) for number in value)
    )
    value = _checked(fields, key, fits)
    return None if value is None else tuple(value)


def _is(value: object, kind: type) -> bool:
    return type(value) is int or (kind is float and type(value) is float)


def _checked(fields: Mapping[str, Any], key: str, fits: bool) -> Any:
    if key not in fields:
        raise ValueError(f"{key} is missing")
    if not fits:
        raise ValueError(f"{key} is {fields[key]!r}")
    return fields[key]
