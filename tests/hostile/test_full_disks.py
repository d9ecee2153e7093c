"""A disk that is full, in the middle of every output: one line, the right exit code, nothing half-written and nothing left over."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "sample_ckpts"
SAMPLE, OTHER, UNET = SAMPLES / "deeplabv3_voc.pth", SAMPLES / "untrained_head_bn.pth", SAMPLES / "tiny_unet_sharded"
KERAS = ROOT / "tests" / "data" / "keras" / "small.weights.h5"
#: Bytes that are left on the disk: enough to begin with an output and too few to end it.
LEFT = 4096
PROJECT = """
[[tool.ckptaudit.contracts]]
name = "one"
checkpoint = "a.pth"
arch = "deeplabv3_resnet50"
"""


SMALL = "from torch import nn\ndef build(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))\n"


def limited(folder):
    """No file may become larger than what is left: what a quota does, without being root."""
    yield folder, partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LEFT, LEFT))


def full(folder):
    """A file system of its own with next to nothing left."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        with (folder / "filler").open("wb", buffering=0) as filler:
            filler.write(bytes((64 << 10) - LEFT))
        yield folder, None
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module", params=[limited, full], ids=["limit", "file system"])
def disk(request, tmp_path_factory):
    yield from request.param(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plans to apply, and a network with a mask and an image to probe."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.py").write_text(SMALL)
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict(), folder / "small.pth")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype="u1")
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(pixels[..., 0]).save(folder / "mask.png")
    for plan, arguments in (("plan.yaml", [SAMPLE, "--arch", "deeplabv3_resnet50"]), ("keras.yaml", [KERAS, "--against", KERAS])):
        ended = command(["remap", *arguments, "--plan", folder / plan], folder)
        assert (folder / plan).exists(), ended.stderr
    return folder


def command(arguments, cache, before=None, **more):
    environment = {**os.environ, "CKPTAUDIT_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", "ckptaudit", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", SAMPLE, "--format", "json=OUT/a.json"],
        ["show", SAMPLE, "--graph", "OUT/a.graphml"],
        ["show", SAMPLE, "--graph", "OUT/a.dot"],
        *(["diff", SAMPLE, "--arch", "resnet50", "--format", f"{name}=OUT/a"] for name in ("html", "sarif", "json")),
        ["remap", SAMPLE, "--arch", "deeplabv3_resnet50", "--plan", "OUT/plan.yaml"],
        ["contract", SAMPLES / "resnet50_imagenet.pth", "--arch", "resnet50", "--format", "json=OUT/a.json"],
        ["probe", *["--mask", "MADE/mask.png"] * 12, "--format", "json=OUT/a.json"],
        ["apply", "MADE/plan.yaml", SAMPLE, "-o", "OUT/a.safetensors"],
        ["apply", "MADE/plan.yaml", SAMPLE, "-o", "OUT/a.pth"],
        ["apply", "MADE/keras.yaml", KERAS, "--like", KERAS, "-o", "OUT/a.weights.h5"],
    ],
    ids=lambda arguments: " ".join(str(part) for part in (arguments[0], *arguments[-2:])).replace("OUT/", ""),
)
def test_nothing_is_left_of_an_output_that_finds_no_room(disk, made, arguments):
    folder, before = disk
    there = sorted(folder.iterdir())
    texts = [str(part).replace("OUT", str(folder)).replace("MADE", str(made)) for part in arguments]
    ended = command(texts, made / "cache", before)
    assert (ended.returncode, ended.stdout) == (3, ""), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert str(folder) in ended.stderr
    assert "No space left" in ended.stderr or "File too large" in ended.stderr
    assert sorted(folder.iterdir()) == there


def test_the_page_of_a_job_keeps_what_others_wrote_on_it(disk, made):
    folder, before = disk
    page, other = folder / "summary.md", "what another step wrote\n" * 160
    page.write_text(other)
    arguments = ["diff", SAMPLE, "--arch", "resnet50", "-v", "--format", "github", "-o", made / "never"]
    ended = command(arguments, made / "cache", before, GITHUB_STEP_SUMMARY=str(page))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (3, "", 1), ended.stderr
    assert f"{page}: could not be written" in ended.stderr
    assert page.read_text() == other
    assert not (made / "never").exists()
    page.unlink()


@pytest.mark.parametrize(
    "arguments",
    [
        ["lock", "--config", "OUT/pyproject.toml", "--from", f"one={SAMPLE}"],
        ["spec", "resnet50", "-o", "OUT/spec.json"],
        ["probe", "MADE/small.pth", "--arch", "MADE/small.py:build", "--images", "MADE", "--input-size", "3x32x32", "--plot", "OUT/a.png"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_a_built_model_tells_and_finds_no_room_is_not_written(tmp_path, made, arguments):
    """They take a model that is built, and so their time: the limit does."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    texts = [part.replace("OUT", str(tmp_path)).replace("MADE", str(made)) for part in arguments]
    ended = command(texts, tmp_path / "cache", partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LEFT, LEFT)))
    assert (ended.returncode, ended.stdout) == (3, ""), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "File too large" in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"pyproject.toml", "cache"}
    assert not list(tmp_path.glob("cache/*"))


def test_a_cache_that_finds_no_room_is_no_fault(disk):
    folder, before = disk
    program = (
        "from ckptaudit.arch import build_model, cache; key, model = cache.Key('a'), build_model('resnet101', {});"
        "cache.put(key, cache.Entry(model, ())); print(cache.get(key, {}), cache.entries())"
    )
    environment = {**os.environ, "CKPTAUDIT_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, preexec_fn=before, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "None []\n", "")
    assert not list(folder.glob("cache/*"))
    shutil.rmtree(folder / "cache", ignore_errors=True)


@pytest.mark.parametrize(
    "arguments",
    [["scan", SAMPLE], ["show", SAMPLE], ["diff", SAMPLE, "--arch", "resnet50"], ["cache"], ["--version"], ["--help"]],
    ids=lambda a: a[0],
)
def test_standard_output_that_takes_nothing_is_told(tmp_path, arguments):
    with Path("/dev/full").open("w") as nowhere:
        program = [sys.executable, "-m", "ckptaudit", *map(str, arguments)]
        environment = {**os.environ, "CKPTAUDIT_CACHE_DIR": str(tmp_path)}
        ended = subprocess.run(
            program, cwd=ROOT, env=environment, stdout=nowhere, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ended.returncode == 3
    assert ended.stderr == "ckptaudit: standard output could not be written (No space left on device)\n"


SHARER = """
import sys
from ckptaudit.arch import build_model, cache
mine, rounds = int(sys.argv[1]), int(sys.argv[2])
names = ("resnet18", ("vgg11", "mobilenet_v3_small", "resnet34")[mine % 3])
found = 0
for turn in range(rounds):
    for name in names:
        key, model = cache.Key(name), build_model(name, {})
        kept = cache.get(key, {})
        if kept is None:
            cache.put(key, cache.Entry(model, ()))
        else:
            assert dict(kept.model.graph.tensors) == dict(model.graph.tensors), name
            found += 1
    if mine == 7:
        cache.clear()
print("right" if found else "nothing was kept")
"""


def test_processes_that_share_a_cache_each_get_what_was_kept(tmp_path):
    """Eight at once: one model for all, others for some of them, and one process that clears the cache again and again."""
    environment = {**os.environ, "CKPTAUDIT_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", SHARER, str(number), "12"], env=environment, **pipes) for number in range(8)]
    ended = [process.communicate(timeout=120) for process in started]
    assert ended[:7] == [("right\n", "")] * 7
    assert not ended[7][1]
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".json"}
