"""Which branches a training file has, and which one is taken for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ckptaudit.errors import BranchError
from ckptaudit.read import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

W = torch.ones(3, 2)
STATE = {"conv.weight": W, "conv.bias": torch.ones(3)}
SMALL = {"fc.weight": torch.ones(1, 1)}
OPTIMIZER = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": W}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
FLAT = {"weight": W, "bias": torch.ones(3)}

# object, branches with their roles, the chosen one, words of the reason
CASES = {
    "state dict": (STATE, {"": "model"}, "", "only branch"),
    "state_dict key": ({"state_dict": STATE, "best_prec1": 1}, {"state_dict": "model"}, "state_dict", "only branch"),
    "unknown key": ({"pesos": STATE}, {"pesos": "model"}, "pesos", "only branch"),
    "two wrappers": ({"checkpoint": {"inner": STATE}, "epoch": 1}, {"checkpoint.inner": "model"}, "checkpoint.inner", ""),
    "model, ema": ({"model": STATE, "ema": dict(STATE)}, {"model": "model", "ema": "ema"}, "model", "the EMA copy is branch 'ema'"),
    "timm": (
        {"state_dict": STATE, "state_dict_ema": STATE, "arch": "r"},
        {"state_dict": "model", "state_dict_ema": "ema"},
        "state_dict",
        "EMA",
    ),
    "basicsr": ({"params_ema": STATE, "params": STATE}, {"params_ema": "ema", "params": "model"}, "params", "EMA"),
    "ema alone": ({"ema_state_dict": STATE}, {"ema_state_dict": "ema"}, "ema_state_dict", "EMA"),
    "trainer": (
        {"net": STATE, "optimizer": OPTIMIZER, "epoch": 4},
        {"net": "model", "optimizer": "optimizer"},
        "net",
        "only branch with model weights",
    ),
    "lightning": (
        {"state_dict": STATE, "optimizer_states": [OPTIMIZER], "callbacks": {"ckpt": {"best": torch.tensor(1.0)}}, "epoch": 1},
        {"state_dict": "model", "optimizer_states.0": "optimizer", "callbacks.ckpt": "other"},
        "state_dict",
        "only branch with model weights",
    ),
    "gan": (
        {"generator": SMALL, "discriminator": STATE},
        {"generator": "model", "discriminator": "model"},
        "generator",
        "also there: 'discriminator'",
    ),
    "parts": ({"backbone": SMALL, "head": STATE}, {"backbone": "model", "head": "model"}, "head", "likeliest of 2"),
    "list of state dicts": ([SMALL, STATE], {"0": "model", "1": "model"}, "1", "likeliest of 2"),
    "nested by layers": ({"conv": FLAT, "fc": FLAT}, {"": "model"}, "", "only branch"),
    "loose tensors beside": ({"model": STATE, "rng": torch.zeros(5000)}, {"": "other", "model": "model"}, "model", "only branch with"),
    "optimizer alone": (OPTIMIZER, {"": "optimizer"}, "", "optimizer"),
    "list of tensors": ([W, W + 1], {"": "model"}, "", "only branch"),
    "bare tensor": (W, {"": "model"}, "", "only branch"),
    "int keys": ({0: W, 1: W + 1}, {"": "model"}, "", ""),
    "nothing": ({}, {"": "other"}, "", "no tensors"),
    "settings only": ({"epoch": 3}, {"": "other"}, "", "no tensors"),
}


@pytest.mark.parametrize("case", CASES)
def test_branches(tmp_path: Path, case: str) -> None:
    saved, roles, chosen, words = CASES[case]
    torch.save(saved, tmp_path / "x.pt")
    read = open_checkpoint(tmp_path / "x.pt")
    assert {branch.name: branch.role for branch in read.branches} == roles
    assert read.branch.name == chosen
    assert words in read.branch_reason


def test_nested_names_are_joined(tmp_path: Path) -> None:
    torch.save({"conv": FLAT, "fc": FLAT}, tmp_path / "x.pt")
    branch = open_checkpoint(tmp_path / "x.pt").branch
    assert list(branch.tensors) == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
    assert branch.nested


def test_branch_is_chosen_by_name(tmp_path: Path) -> None:
    torch.save({"model": STATE, "ema": dict(STATE)}, tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt", branch="ema").branch.role == "ema"
    with pytest.raises(BranchError, match="'model', 'ema'"):
        open_checkpoint(tmp_path / "x.pt", branch="teacher")


def test_metadata_is_plain_and_bounded(tmp_path: Path) -> None:
    saved = {
        "model": STATE,
        "meta": {"CLASSES": ("cat", "dog"), "config": {"lr": 0.1, "none": None, "nan": float("nan")}, "tags": {"x"}},
        "history": list(range(5000)),
        "huge": 1 << 100_000,
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "text": "é" * 50_000,
    }
    torch.save(saved, tmp_path / "x.pt")
    metadata = open_checkpoint(tmp_path / "x.pt").metadata
    assert metadata["meta"] == {"CLASSES": ["cat", "dog"], "config": {"lr": 0.1, "none": None, "nan": "nan"}, "tags": ["x"]}
    assert len(metadata["history"]) == 1001
    assert metadata["history"][-1] == "… 4,000 more"
    assert metadata["huge"] == "an integer of 100,001 bits"
    assert (metadata["device"], metadata["dtype"], metadata["size"]) == ("cuda:1", "torch.float16", [1, 2])
    assert len(metadata["text"]) < 11_000
    assert "model" not in metadata
