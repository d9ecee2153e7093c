"""An image file that looks black, looked at: class numbers without a palette are there, and invisible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ckptaudit.errors import CkptAuditError
from ckptaudit.probe.hypothesis import Hypothesis, judged

#: What an eye takes for black, of 255.
_DARK = 40
_MAX_LISTED = 12


class MaskError(CkptAuditError):
    """The file is no image that can be read."""


def judge_mask(path: Path) -> Hypothesis:
    """Whether the file is black, or only looks so.

    Raises
    ------
    MaskError
        It cannot be read as an image.
    """
    import numpy

    mode, values = _read(path)
    figures: dict[str, Any] = {"mode": mode, "largest": float(values.max(initial=0))}
    colour = values[..., :3] if values.ndim == 3 and values.shape[2] >= 3 else values
    if values.ndim == 3 and values.shape[2] == 4 and not values[..., 3].any() and colour.any():
        return _judged(
            path, 0.95, "its alpha channel is 0 everywhere: the colours are there, and nothing shows them", "save it without alpha", figures
        )
    if not colour.any():
        return _judged(
            path,
            0.9,
            "every pixel is 0: nothing else is in the file",
            "look at what was saved: the model's output, before it was drawn",
            figures,
        )
    if mode == "P":
        return _judged(path, 0.02, "it has a palette, and shows its class numbers as colours", "", figures)
    flat = colour if colour.ndim == 2 else colour.reshape(-1, colour.shape[2])
    ids, counts = numpy.unique(flat, return_counts=True, axis=None if colour.ndim == 2 else 0)
    largest = float(colour.max())
    end = 65535.0 if colour.dtype.itemsize == 2 or mode.startswith("I") else 1.0 if colour.dtype.kind == "f" and largest <= 1 else 255.0
    figures |= {"values": len(ids)}
    if colour.dtype.kind == "f" and largest <= 1:
        return _judged(
            path,
            0.9,
            f"its values lie between {colour.min():.3g} and {largest:.3g}, and 255 would be white",
            "multiply with 255 before saving",
            figures,
        )
    if largest / end * 255 <= _DARK and bool((colour == colour.round()).all()):
        plain = ids.ravel() if colour.ndim == 2 else ids[:, 0]
        listed = ", ".join(f"{int(i)} ({c / counts.sum():.1%})" for i, c in list(zip(plain, counts, strict=True))[:_MAX_LISTED])
        what = f"it holds class numbers without a palette, which are too dark to be seen: {listed}{' …' if len(ids) > _MAX_LISTED else ''}"
        factor = int(end // max(largest, 1))
        fix = (
            f"show it with a palette (Image.fromarray(ids).putpalette(…)), or brighter: ids * {factor}; the prediction itself is not black"
        )
        return _judged(path, 0.97, what, fix, figures)
    return _judged(path, 0.02, f"it is not black: {len(ids)} different values up to {largest:.3g}", "", figures)


def _judged(path: Path, sure: float, what: str, fix: str, figures: dict[str, Any]) -> Hypothesis:
    return judged("mask", sure, f"{path.name}: {what}.", fix, figures, [str(path)])


def _read(path: Path) -> tuple[str, Any]:
    import numpy

    from ckptaudit.prove.images import pillow

    image_module = pillow()
    try:
        with image_module.open(path) as image:
            return image.mode, numpy.asarray(image)
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MaskError(f"{path}: cannot be read as an image ({reason})") from None
