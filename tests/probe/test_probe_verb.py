"""``ckptaudit probe`` at the prompt, on real files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest
import torch
from PIL import Image

from tests.prove.renaming import renamed

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "probe-1.schema.json").read_text())
CIFAR = "tests/prove/networks.py:CifarResNet"


def on_photographs(real, photographs, crops=12):
    """The network for CIFAR-10 on so many crops of photographs."""
    sizes = ("--input-size", "3x32x32", "--crops", str(crops))
    return ("probe", real / "cifar10_resnet20.th", "--arch", CIFAR, "--images", photographs, *sizes)


def _json(result):
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    return document


def _table(document):
    (scores,) = [h["figures"]["scores"] for h in document["hypotheses"] if "scores" in h["figures"]]
    return {score["name"]: score for score in scores}


def test_the_table_of_ways_to_feed_images(run, run_beside_torch, real, photographs, tmp_path):
    """Only ImageNet's numbers fit a network that was trained with them."""
    plot = tmp_path / "depth.png"
    common = (*on_photographs(real, photographs, 60), "--format", "json")
    result = run(*common, "--preprocess", "0..1", "--plot", plot)
    assert result.returncode == 1, result.stderr
    document = _json(result)
    table = _table(document)
    assert table["imagenet"]["mean"] < 0.06
    assert table["imagenet, BGR"]["mean"] < 0.06
    for way, times in (("-1..1", 2), ("0..1", 4), ("0..255", 1e4), ("caffe", 1e4)):
        assert table[way]["mean"] > times * table["imagenet"]["mean"]
        assert table[way]["first"] > 3 * table["imagenet"]["first"]
    assert document["hypotheses"][0]["cause"] == "preprocessing"
    assert document["images"] == {"files": 3, "crops": 60, "size": [32, 32]}
    assert len(document["batch_norm"]) == 19
    assert all(layer["before"] is not None for layer in document["batch_norm"])
    with Image.open(plot) as drawn:
        assert (drawn.format, drawn.width > 500) == ("PNG", True)
    right = run_beside_torch(*common, "--preprocess", "imagenet", "--read", "argmax", "--classes", "10")
    assert (right.returncode, _json(right)["batch_norm"][0]["before"]) == (0, None)


def test_a_keras_model(run, real, photographs):
    common = (
        "probe",
        real / "fer_emotion_model.hdf5",
        "--arch",
        "tests/probe/fer.py:build",
        "--images",
        photographs,
        "--crops",
        "30",
        "--format",
        "json",
    )
    wrong = run(*common, "--preprocess", "0..255")
    document = _json(wrong)
    first = document["hypotheses"][0]
    assert (wrong.returncode, first["cause"]) == (1, "preprocessing")
    assert first["figures"]["scores"][0]["name"] == "-1..1"  # as the package does it; photographs are no faces, so 0..1 may be left, too
    assert document["output"]["kind"] == "probabilities"
    assert [h["cause"] for h in document["hypotheses"] if h["status"] == "cause"] == ["preprocessing"]


def test_what_the_file_does_not_set_comes_first(run_beside_torch, real, tmp_path):
    state = torch.load(real / "cifar10_resnet20.th", map_location="cpu", weights_only=False)["state_dict"]
    torch.save({name: tensor for name, tensor in state.items() if "linear" not in name}, tmp_path / "headless.pth")
    result = run_beside_torch("probe", tmp_path / "headless.pth", "--arch", CIFAR, "--input-size", "3x32x32", "--format", "json")
    first = _json(result)["hypotheses"][0]
    assert (result.returncode, first["cause"]) == (1, "head")
    assert "not set by the file" in first["message"]


def test_a_function_of_the_user(run_beside_torch, real, photographs, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy\n"
        "def last(image): return numpy.asarray(image.resize((32, 32)), numpy.float32) / 255\n"
        "def first(image): return last(image).transpose(2, 0, 1)\n"
        "def broken(image): raise ValueError('no such image')\n"
    )
    common = (*on_photographs(real, photographs), "--preprocess")
    outcomes = {name: run_beside_torch(*common, f"{tmp_path}/mine.py:{name}") for name in ("last", "broken")}
    assert {name: result.returncode for name, result in outcomes.items()} == {"last": 1, "broken": 3}
    assert "channels last" in " ".join(outcomes["last"].stdout.split())
    assert "no such image" in outcomes["broken"].stderr


def test_masks_that_look_black(run, tmp_path):
    ids = torch.zeros(20, 20, dtype=torch.uint8).numpy()
    Image.fromarray(ids).save(tmp_path / "empty.png")
    ids[5:9, 5:9] = 15
    Image.fromarray(ids).save(tmp_path / "ids.png")
    palette = Image.fromarray(ids)
    palette.putpalette([value for i in range(256) for value in (i * 16 % 256, 255 - i, i)])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(ids * 17).save(tmp_path / "bright.png")
    clear = Image.new("RGBA", (9, 9), (200, 100, 50, 0))
    clear.save(tmp_path / "clear.png")
    (tmp_path / "text.png").write_text("no image")
    expected = {"empty": (1, "every pixel is 0"), "ids": (1, "0 (96.0%), 15 (4.0%)"), "palette": (0, "palette"), "bright": (0, "not black")}
    expected |= {"clear": (1, "alpha"), "text": (3, "cannot be read as an image")}
    for name, (code, words) in expected.items():
        result = run("probe", "--mask", tmp_path / f"{name}.png")
        assert (result.returncode, words in " ".join((result.stdout + result.stderr).split())) == (code, True), (
            result.stdout + result.stderr
        )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "give a checkpoint, or a --mask"),
        (("CIFAR", "--preprocess", "imagnet"), 2, "it is one of imagenet"),
        (("CIFAR", "--preprocess", "stated"), 2, "states any"),
        (("CIFAR", "--read", "argmin"), 2, "--read argmin"),
        (("CIFAR", "--images", "docs/rules"), 3, "no images"),
        (("CIFAR", "--images", "README.md"), 3, "is no folder of images"),
        (("CIFAR", "--input-size", "big"), 2, "write it as 3x224x224"),
        (("CIFAR", "--plot", "x.png"), 2, "--plot draws what images show"),
        (("CIFAR", "--preprocess", "nowhere.py:f"), 3, "there is no such file"),
        (("sample_ckpts/not_a_checkpoint.pth", "--arch", CIFAR), 3, "git-lfs pointer"),
    ],
)
def test_wrong_usage_is_one_line(run, real, arguments, code, words):
    arguments = [value for word in arguments for value in ((real / "cifar10_resnet20.th", "--arch", CIFAR) if word == "CIFAR" else (word,))]
    result = run("probe", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_terminal_and_markdown(run, real, photographs, tmp_path):
    common = (*on_photographs(real, photographs), "--preprocess", "0..255")
    page = tmp_path / "page.md"
    terminal = run(*common, "--format", "terminal", "--format", f"markdown={page}", "-v").stdout
    assert terminal.startswith("✗ cause found")
    assert "sees the input" in terminal
    assert page.read_text().startswith("## ckptaudit probe: ✗ cause found")
    assert "| ImageNet mean and standard deviation |" in page.read_text()


def test_a_guess_is_no_ground_to_be_sure_on(run_beside_torch, real, photographs, tmp_path):
    """Names that say nothing, in no order: figures of what was put in place by a guess convict nothing else."""
    state = torch.load(real / "cifar10_resnet20.th", map_location="cpu", weights_only=False)["state_dict"]
    torch.save(renamed(state, random.Random(0), shuffle=True)[0], tmp_path / "mixed.pth")
    sizes = ("--input-size", "3x32x32", "--crops", "12")
    result = run_beside_torch("probe", tmp_path / "mixed.pth", "--arch", CIFAR, "--images", photographs, *sizes, "--format", "json")
    document = _json(result)
    assert document["hypotheses"][0]["cause"] == "restoring", document["hypotheses"][0]
    assert all(h["status"] != "cause" and h["sure"] <= 0.4 for h in document["hypotheses"])
