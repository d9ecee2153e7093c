"""Photographs, and real trained networks restored by hand: what a probe says of them is held against what is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.prove.networks import CifarResNet

#: Thresholds were chosen on the first, and are checked on the second.
CHOSEN = ("astronaut.png", "chelsea.png", "coffee.png")
CHECKED = ("hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")


def _folder(made: Path, names: tuple[str, ...]) -> Path:
    import skimage.data

    for name in names:
        shutil.copy(Path(skimage.data.__file__).parent / name, made / name)
    return made


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Three ordinary photographs that come with scikit-image."""
    return _folder(tmp_path_factory.mktemp("chosen"), CHOSEN)


@pytest.fixture(scope="session")
def other_photographs(tmp_path_factory) -> Path:
    """Five others, two of them from a microscope and from a telescope."""
    return _folder(tmp_path_factory.mktemp("checked"), CHECKED)


@pytest.fixture(scope="session")
def cifar(real):
    """The ResNets for CIFAR-10 under the names of another code base, restored in the order of their tensors."""

    def restored(depth: int) -> CifarResNet:
        module = CifarResNet({20: 3, 32: 5}[depth])
        state = torch.load(real / f"cifar10_resnet{depth}.th", map_location="cpu", weights_only=False)["state_dict"]
        own = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
        module.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=False)
        return module.eval()

    return restored
