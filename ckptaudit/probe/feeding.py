"""What the user does to images: one of the usual ways, what the library states, or a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.factory import load_object
from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.errors import ArchitectureError, CkptAuditError, UsageError
from ckptaudit.probe.hypothesis import Hypothesis, judged
from ckptaudit.prove.presets import PRESETS
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    Array = numpy.ndarray[Any, Any]


class FeedingError(CkptAuditError):
    """The user's function fails, or gives nothing that could be a batch of images."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the user does.

    Attributes
    ----------
    name:
        As it was typed.
    preprocessing:
        Where it is one that is known; else None.
    function:
        Where it is the user's own: image → array or tensor.
    """

    name: str
    preprocessing: Preprocessing | None = None
    function: Callable[[Any], Any] | None = None

    @property
    def words(self) -> str:
        """What it does."""
        return self.preprocessing.source if self.preprocessing is not None else f"`{self.name}`"


def parse_given(text: str | None, stated: Preprocessing | None) -> Given | None:
    """``--preprocess`` as what it means.

    Raises
    ------
    UsageError
        There is no such way, or library and file state none.
    ArchitectureError
        The user's function cannot be found.
    """
    if text is None:
        return None
    if text in PRESETS:
        return Given(text, PRESETS[text])
    if text == "stated":
        if stated is None:
            raise UsageError("--preprocess stated: neither the library nor a file beside the checkpoint states any")
        return Given(text, stated)
    if ":" not in text:
        raise UsageError(f"--preprocess {text}: it is one of {', '.join(PRESETS)}, stated, or file.py:function")
    function = load_object(text)
    if not callable(function):
        raise ArchitectureError(f"{text} is of type {type(function).__name__}, which cannot be called with an image")
    return Given(text, function=function)


def fed(given: Given, images: Sequence[Image.Image], channels: int) -> tuple[Array, Hypothesis | None]:
    """What the user's function makes of images: (images, channels, height, width), and what is wrong with the order of its axes.

    Raises
    ------
    FeedingError
        It fails, or gives nothing that could be a batch of images.
    """
    import numpy

    made = []
    assert given.function is not None  # noqa: S101 (asked for functions only)
    with isolated(given.name):
        for image in images:
            try:
                with output_to_stderr():
                    value = given.function(image)
            except Exception as error:
                raise FeedingError(f"{given.name} fails on an image: {describe_error(error)}") from None
            if isinstance(value, dict):  # albumentations, image processors
                value = value.get("image", value.get("pixel_values"))
            if isinstance(value, list | tuple) and len(value) == 1:
                value = value[0]
            value = value.detach().cpu().numpy() if hasattr(value, "detach") else numpy.asarray(value)
            made.append(value[0] if value.ndim == 4 and len(value) == 1 else value)
    sizes = {value.shape for value in made}
    if len(sizes) > 1 or made[0].ndim not in (2, 3) or made[0].dtype.kind not in "fiu":
        told = ", ".join("×".join(map(str, size)) for size in sorted(sizes)[:3])
        raise FeedingError(f"{given.name} gives {told}: not one size of images")
    values = numpy.stack(made)
    values = values[:, None] if values.ndim == 3 else values
    values = values.astype(numpy.float32)
    if values.shape[1] != channels and values.shape[-1] == channels:
        size = "×".join(map(str, values.shape[1:]))
        wrong = judged(
            "preprocessing",
            0.99,
            f"{given.name} gives {size}, channels last; the model takes {channels} channels first: each row would be taken for a colour.",
            "move the axes: array.transpose(2, 0, 1), tensor.permute(2, 0, 1)",
            {"shape": list(values.shape[1:])},
        )
        return numpy.ascontiguousarray(values.transpose(0, 3, 1, 2)), wrong
    if values.shape[1] != channels:
        size = "×".join(map(str, values.shape[1:]))
        raise FeedingError(f"{given.name} gives {size}, and the model takes {channels} channels")
    return values, None
