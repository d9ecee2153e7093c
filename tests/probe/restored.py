"""Real trained networks, restored by hand, and photographs, for benchmarks of what BatchNorm statistics tell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from torch import nn

from tests.probe.espnetv2 import ESPNetv2
from tests.prove.networks import CifarResNet

REAL = Path(os.environ["CKPTAUDIT_REAL"])


def cifar(depth: int) -> nn.Module:
    """A ResNet for CIFAR-10."""
    module = CifarResNet({20: 3, 32: 5}[depth])
    state = torch.load(REAL / f"cifar10_resnet{depth}.th", map_location="cpu", weights_only=False)["state_dict"]
    own = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=False)
    return module


def espnet(name: str, classes: int) -> nn.Module:
    """An ESPNetv2 for segmentation."""
    module = ESPNetv2(classes)
    module.load_state_dict(torch.load(REAL / f"espnetv2_{name}.pth", map_location="cpu"))
    return module


def photographs(made: Path, names: tuple[str, ...]) -> Path:
    """A folder of photographs that come with scikit-image."""
    import skimage.data

    folder = made / names[0]
    folder.mkdir()
    for name in names:
        shutil.copy(Path(skimage.data.__file__).parent / name, folder / name)
    return folder
