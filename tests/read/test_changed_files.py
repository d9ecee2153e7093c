"""Values come from the file that was checked, or not at all; names that no model has are refused."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.read import open_checkpoint


@pytest.fixture
def path(tmp_path):
    save_file({"w": torch.ones(4)}, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def _another(path):
    save_file({"w": torch.zeros(4)}, path.with_name("b"))
    path.with_name("b").replace(path)


def _truncated(path):
    os.truncate(path, 10)


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


def _folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_another, _truncated, _fifo, _folder])
def test_changed_file_is_not_read(path, change):
    read = open_checkpoint(path)
    change(path)
    with pytest.raises(CorruptCheckpointError, match="changed while it was audited"):
        read.read("w")


def test_missing_file_is_told(path):
    read = open_checkpoint(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        read.sample("w", 2)


def test_relative_name_outlives_the_working_directory(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    read = open_checkpoint(path.name)
    monkeypatch.chdir("/")
    assert read.read("w").tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("separator", [".", "/"])
def test_deep_names_are_refused(tmp_path, separator):
    for parts in (256, 257):
        name = separator.join("a" * parts)
        save_file({name: torch.ones(1)}, tmp_path / "a.safetensors")
        torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
        for file in ("a.safetensors", "a.pth"):
            if parts == 256:
                assert name in open_checkpoint(tmp_path / file).branch.tensors
            else:
                with pytest.raises(CorruptCheckpointError, match="257 parts"):
                    open_checkpoint(tmp_path / file)
