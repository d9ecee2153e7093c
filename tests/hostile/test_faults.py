"""Faults of the machine, as an ordinary user meets them: nothing can be written, or nothing can be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
SAMPLE = str(ROOT / "sample_ckpts" / "resnet50_imagenet.pth")


def run_locked(arguments, folder):
    """The real command where permissions count, also for root, and nothing but the system's own folders can be written to."""
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "CKPTAUDIT_CACHE_DIR"), str(folder)) | {"GITHUB_STEP_SUMMARY": str(folder / "out")}
    powerless = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    command = [*powerless, sys.executable, "-m", "ckptaudit", *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **nowhere}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def locked(tmp_path):
    """A folder that may be read and not be written to."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and there is no setpriv to forbid it")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", SAMPLE], 0),
        (["scan", SAMPLE], 0),
        (["diff", SAMPLE, "--arch", "resnet50"], 0),
        (["diff", SAMPLE, "--against", SAMPLE], 0),
        (["cache"], 0),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_home_that_cannot_be_written_to_is_no_fault(locked, arguments, code):
    ended = run_locked(arguments, locked)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", SAMPLE, "--format", "json", "-o", "OUT"],
        ["show", SAMPLE, "--graph", "OUT.dot"],
        ["diff", SAMPLE, "--arch", "resnet50", "--format", "sarif=OUT"],
        ["diff", SAMPLE, "--arch", "resnet50", "--format", "html=OUT"],
        ["remap", SAMPLE, "--arch", "resnet50", "--plan", "OUT"],
        ["contract", SAMPLE, "--arch", "resnet50", "--format", "json=OUT"],
        ["probe", "--mask", "MASK", "--format", "json", "-o", "OUT"],
        ["diff", SAMPLE, "--arch", "resnet50", "--format", "github"],  # and the page of the job
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_may_not_be_written_is_told_in_one_line(locked, arguments):
    Image.new("L", (20, 20)).save(locked.parent / "mask.png")
    places = {"OUT": str(locked / "out"), "MASK": str(locked.parent / "mask.png")}
    ended = run_locked([places.get(part, str(part).replace("OUT", places["OUT"])) for part in arguments], locked)
    assert ended.returncode in (2, 3)
    assert not ended.stdout
    assert "permission denied" in ended.stderr.lower()
    assert str(locked / "out") in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert list(locked.iterdir()) == []


def test_a_file_that_may_not_be_read_is_told_in_one_line(locked):
    secret = locked.parent / "secret.pth"
    secret.write_bytes(Path(SAMPLE).read_bytes())
    secret.chmod(0)
    for verb in ("show", "scan"):
        ended = run_locked([verb, secret], locked)
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr == f"ckptaudit: {secret}: permission denied\n"
    secret.chmod(0o644)


def test_a_folder_with_files_that_may_not_be_read_is_scanned_on(locked):
    folder = locked.parent / "folder"
    folder.mkdir()
    for name, mode in (("a.pth", 0o644), ("b.pth", 0), ("c.pth", 0o644)):
        (folder / name).write_bytes(Path(SAMPLE).read_bytes())
        (folder / name).chmod(mode)
    ended = run_locked(["scan", folder], locked)
    assert ended.returncode == 3
    assert ended.stdout.count("clean") == 3
    assert ended.stderr == f"ckptaudit: {folder / 'b.pth'}: permission denied\n"
