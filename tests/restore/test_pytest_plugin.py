"""The fixture ``assert_restores``, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from tests.conftest import ROOT
from tests.restore.networks import SmallNet, trained

TESTS = """
from tests.restore.networks import SmallNet

def test_released(assert_restores):
    assert assert_restores("released.pth", SmallNet()).verdict.status == "compatible"

def test_for_finetuning(assert_restores):
    assert_restores("released.pth", SmallNet(classes=3), intent="finetune")

def test_with_a_gap(assert_restores):
    assert_restores("released.pth", SmallNet(classes=3), allow_missing=["head"])

def test_broken_by_a_change(assert_restores):
    assert_restores("released.pth", SmallNet(classes=3))

def test_not_there(assert_restores):
    assert_restores("nowhere.pth", SmallNet())
"""


def test_the_fixture(tmp_path):
    torch.save(trained(SmallNet()).state_dict(), tmp_path / "released.pth")
    (tmp_path / "test_released.py").write_text(TESTS)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "ckptaudit.integrations.pytest_plugin", "-p", "no:cacheprovider", "--rootdir=."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 3 passed" in result.stdout, result.stdout + result.stderr
    assert "The file has 10 classes and the model 3" in result.stdout
    assert "nowhere.pth: no such file" in result.stdout
    assert "Traceback" not in result.stdout
    assert "pytest_plugin.py" not in result.stdout
