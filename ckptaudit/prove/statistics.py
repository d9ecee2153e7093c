"""BatchNorm statistics are a fingerprint of what a network was fed in training: what reaches a layer must fit what the layer remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ckptaudit.errors import ArchitectureError, ImagesError
from ckptaudit.prove.agreement import Agreement, measure_agreement
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.presets import PRESETS, prepared
from ckptaudit.prove.proof import Statistics
from ckptaudit.prove.running import TorchNetwork, batches_of, divergences

if TYPE_CHECKING:
    import torch

_CROPS, _BATCH = 120, 30
#: Largest figure of a layer on its own, behind another BatchNorm. Chosen on the ResNet-20 for CIFAR-10 and the ESPNetv2 for PASCAL with
#: three photographs: right, no layer above 0.050; wrong, 0.2 and more. Held against a ResNet-32, the ESPNetv2 for Cityscapes, a network for
#: faces, and five other photographs: no layer above 0.055 (`benchmarks/probe_cases.py`). What lies between is left open.
AGREES, DISAGREES = 0.08, 0.15
#: Up to this the first layer agrees with the input: photographs of another kind than the training's leave 0.1, wrong pixels 0.5 and more.
INPUT_AGREES = 0.25


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
    ImagesError
        The folder holds no images, or the model takes no images of three channels.
    ArchitectureError
        The model cannot be run on them.
    """
    network = TorchNetwork(module)
    remembered = network.norms()
    if not remembered:
        return None
    size = image_size(network, input_size)
    files = image_files(folder)
    pixels = pixels_of(crops(files, _CROPS), size)
    best, least = PRESETS["imagenet"], float("inf")
    for preset in PRESETS.values():
        try:
            found = divergences(network.run(batches_of(prepared(pixels, preset), _BATCH)).norms, remembered)
        except ArchitectureError as error:
            if input_size is not None:
                raise
            raise ArchitectureError(f"{error}; the size was guessed: give input_size (--input-size at the prompt)") from None
        figure = sum(found.values()) / len(found)
        if figure < least:
            best, least = preset, figure
    agreement = measure_agreement(network, prepared(pixels, best), _BATCH)
    assert agreement is not None  # noqa: S101 (there are norms)
    return _judged(best.source, agreement)


def _judged(preprocessing: str, agreement: Agreement) -> Statistics:
    inner = agreement.inner or agreement.layers
    worst, typical = max(inner, key=lambda layer: layer.alone), median(layer.alone for layer in inner)
    consistent: bool | None = None
    if worst.alone > DISAGREES:
        consistent = False
    elif worst.alone <= AGREES and agreement.first <= INPUT_AGREES:
        consistent = True
    return Statistics(
        consistent,
        agreement.mean,
        agreement.first,
        typical,
        min(typical, agreement.first) <= AGREES,
        worst.alone,
        worst.path,
        len(agreement.layers),
        agreement.images,
        preprocessing,
    )


def image_size(network: TorchNetwork, input_size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width of the images that a network takes: as given, or the likeliest.

    Raises
    ------
    ImagesError
        They cannot be guessed, or it takes no images of three channels.
    """
    sizes = tuple(input_size) if input_size is not None else next(network.input_sizes(), None)
    if sizes is None:
        raise ImagesError("the size of the model's input cannot be guessed; give input_size (--input-size at the prompt)")
    if len(sizes) != 3 or sizes[0] != 3:
        raise ImagesError(f"images have three channels, and the input is {'×'.join(map(str, sizes))}")
    return sizes[1], sizes[2]
