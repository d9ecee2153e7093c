"""BatchNorm statistics are a fingerprint of what a network was fed in training: what reaches a layer must fit what the layer remembers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import UsageError
from ckptaudit.prove.networks import random_inputs
from ckptaudit.prove.proof import Statistics

if TYPE_CHECKING:
    import torch

#: Crops in all, and image files at most.
_CROPS, _FILES = 120, 100
#: Sides of a crop in units of the image's shorter side: training crops so, and statistics remember it.
_SCALES = (0.6, 1.0)
#: Usual ways to scale pixels from 0 … 1: mean and standard deviation of each channel.
_WAYS = {
    "ImageNet mean and standard deviation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "-1 … 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "0 … 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0 … 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
#: Measured on a ResNet-20 and a ResNet-32 trained on CIFAR-10, with three photographs from elsewhere. Right: a mean of 0.03 to 0.04, no
#: layer above 0.14. Two convolutions exchanged: 0.06 to 0.35, at worst 0.4 to 1.9; two norms 0.25 and 1.3; two early blocks 0.05 and 0.2
#: to 0.28; two late blocks nothing that would be seen. What lies between is left open.
_AGREE, _DISAGREE = (0.05, 0.15), (0.12, 0.6)


def compare_statistics(module: torch.nn.Module, folder: Path, input_size: Sequence[int] | None = None) -> Statistics | None:
    """Run images through a restored model and compare what reaches each BatchNorm with its running statistics.

    Parameters
    ----------
    module:
        The restored model, in evaluation mode.
    folder:
        Ordinary images; subfolders are looked into.
    input_size:
        Channels, height and width of the input; guessed where it is not given.

    Returns
    -------
    Statistics
        None for a model without running statistics.

    Raises
    ------
    UsageError
        The folder holds no images, or the model takes no images of three channels.
    """
    import torch

    norms = {
        path: child
        for path, child in module.named_modules()
        if isinstance(child, torch.nn.modules.batchnorm._BatchNorm) and child.running_mean is not None
    }
    if not norms:
        return None
    size = _size(module, input_size)
    crops = torch.stack(list(_crops(folder, size)))
    best: tuple[str, dict[str, float]] | None = None
    for name, (mean, deviation) in _WAYS.items():
        images = (crops - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(deviation).reshape(3, 1, 1)
        figures = _figures(module, norms, images)
        if best is None or _mean(figures) < _mean(best[1]):
            best = name, figures
    assert best is not None  # noqa: S101 (there is a way)
    return _judged(*best, len(crops))


def _judged(preprocessing: str, figures: dict[str, float], images: int) -> Statistics:
    first, *rest = figures
    worst = max(rest, key=lambda path: figures[path], default=first)
    mean = _mean(figures)
    consistent: bool | None = None
    if mean <= _AGREE[0] and figures[worst] <= _AGREE[1]:
        consistent = True
    elif mean > _DISAGREE[0] or figures[worst] > _DISAGREE[1]:
        consistent = False
    return Statistics(consistent, mean, figures[first], figures[worst], worst, len(figures), images, preprocessing)


def _mean(figures: dict[str, float]) -> float:
    return sum(figures.values()) / len(figures)


def _figures(module: torch.nn.Module, norms: dict[str, Any], images: torch.Tensor) -> dict[str, float]:
    """By layer in the order of computation: the median over channels of KL(batch ‖ running)."""
    import torch

    figures: dict[str, float] = {}

    def watch(path: str) -> Any:
        def hook(norm: Any, args: tuple[Any, ...]) -> None:
            values = args[0].detach().transpose(0, 1).flatten(1).double()
            mean, variance = values.mean(1), values.var(1).clamp_min(1e-12)
            old_mean, old_variance = norm.running_mean.double(), norm.running_var.double().clamp_min(1e-12)
            divergence = 0.5 * (torch.log(old_variance / variance) + (variance + (mean - old_mean) ** 2) / old_variance - 1)
            median = float(divergence.median())
            figures.setdefault(path, median if math.isfinite(median) else 1e9)

        return hook

    with ExitStack() as stack, isolated(type(module).__name__), torch.no_grad(), output_to_stderr():
        for path, norm in norms.items():
            stack.callback(norm.register_forward_pre_hook(watch(path)).remove)
        module(images)
    return figures


def _size(module: torch.nn.Module, input_size: Sequence[int] | None) -> tuple[int, int]:
    if input_size is None:
        inputs = next(random_inputs(module), ())
        if not inputs:
            raise UsageError("the size of the model's input cannot be guessed; give --input-size")
        input_size = tuple(inputs[0].shape[1:])
    if len(input_size) != 3 or input_size[0] != 3:
        raise UsageError(f"images have three channels, and the input is {'×'.join(map(str, input_size))}")
    return input_size[1], input_size[2]


def _crops(folder: Path, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """The same crops at every call, evenly from all images: (3, height, width), from 0 to 1."""
    import random

    import torch
    from PIL import Image, UnidentifiedImageError

    images = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[: _FILES * 10]:
        try:
            with Image.open(path) as opened:
                images.append(opened.convert("RGB"))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            continue
        if len(images) == _FILES:
            break
    if not images:
        raise UsageError(f"{folder}: no images")
    chance = random.Random(0)  # noqa: S311 (crops are no secrets)
    for i in range(_CROPS):
        image = images[i % len(images)]
        side = chance.uniform(*_SCALES) * min(image.size)
        left, top = (chance.uniform(0, extent - side) for extent in image.size)
        crop = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        yield torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).reshape(*size, 3).permute(2, 0, 1).float() / 255
