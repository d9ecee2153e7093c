"""The code that a contract prints is run, with the libraries that it is for, and gives what the statement says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.contract import code_for
from ckptaudit.prove.presets import PRESETS, prepared

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "contract-1.schema.json").read_text())

STATEMENTS = {
    "imagenet": PRESETS["imagenet"],
    "caffe": PRESETS["caffe"],
    "one deviation": PRESETS["-1..1"],
    "unscaled": PRESETS["0..255"],
    "nothing but a source": Preprocessing("nobody"),
    "channels last": Preprocessing("k", layout="NHWC", channels="BGR", scale=1.0, mean=(1.0, 2.0, 3.0), std=(58.0, 57.0, 56.0)),
    "grey": Preprocessing("g", scale=1 / 255, mean=(0.5,), std=(0.25,)),
    "cropped": Preprocessing("c", size=(20, 24), resize=(24,), fit="crop", channels="RGB", scale=1 / 255, std=(0.2, 0.3, 0.4)),
    "squashed to its size": Preprocessing(
        "s", size=(24, 32), fit="squash", interpolation="bicubic", channels="RGB", scale=1 / 127.5, mean=(1.0,) * 3
    ),
}


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    """24 high and 32 wide, every pixel another."""
    path = tmp_path_factory.mktemp("picture") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("library", ["torchvision", "numpy", "keras", "opencv"])
@pytest.mark.parametrize("told", STATEMENTS.values(), ids=STATEMENTS)
def test_the_code_does_what_the_statement_says(picture, told, library):
    if library == "keras":
        from ckptaudit.arch.keras_build import import_keras

        import_keras()
    names = {"path": str(picture)}
    exec(code_for(told)[library], names)
    grey = told.mean is not None and len(told.mean) == 1
    pixels = np.asarray(Image.open(picture).convert("L" if grey else "RGB"))[None]
    pixels = pixels[..., None] if grey else pixels
    if told.size == (20, 24):
        pixels = pixels[:, 2:22, 4:28]
    expected = prepared(pixels, told)
    expected = expected.transpose(0, 2, 3, 1) if told.layout == "NHWC" else expected
    # Libraries turn colours into grey with other roundings.
    np.testing.assert_allclose(np.asarray(names["batch"]), expected, atol=0.02 if grey else 1e-4 * max(1.0, float(abs(expected).max())))


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_sizes_agree_where_an_image_has_other_proportions(picture, fit):
    told = Preprocessing("x", size=(48, 48), resize=(56,) if fit == "crop" else None, fit=fit, channels="RGB", scale=1 / 255)
    batches = {}
    for library, text in code_for(told).items():
        names = {"path": str(picture)}
        exec(text, names)
        batches[library] = np.asarray(names["batch"])
    assert {batch.shape for batch in batches.values()} == {(1, 3, 48, 48)}
    np.testing.assert_allclose(batches["torchvision"], batches["numpy"], atol=1e-5)
    assert abs(batches["opencv"] - batches["numpy"]).mean() < 0.02  # the same picture, other roundings


@pytest.mark.parametrize("library", ["numpy", "keras", "opencv"])
def test_the_shorter_side_becomes_what_torchvision_makes_of_it(library):
    """For every side: 235 / 256 * 256 is 235, and 235 / 284 * 284 as a factor in floating point is not."""
    from torchvision.transforms.functional import _compute_resized_output_size

    told = Preprocessing("x", size=(224, 224), resize=(235,), fit="crop", channels="RGB", scale=1 / 255)
    lines = [line for line in code_for(told)[library].splitlines() if line.startswith("short = ") or ".resize(" in line]
    sizing = compile("\n".join(lines), library, "exec")
    sizes, expected = [], []
    cv2 = SimpleNamespace(resize=lambda image, size, interpolation: sizes.append(size), INTER_LINEAR=None)
    for side in range(100, 3000):
        for width, height in ((side, side + 213), (side + 213, side), (side, side)):
            image = SimpleNamespace(
                size=(width, height), width=width, height=height, shape=(height, width, 3), resize=lambda size, how: sizes.append(size)
            )
            exec(sizing, {"image": image, "cv2": cv2, "Image": Image})
            expected.append(tuple(_compute_resized_output_size((height, width), [235])[::-1]))
    assert sizes == expected


def _statements(result):
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    return document, {(s["what"], s["source"].split()[0]): s["value"] for s in document["statements"]}


def test_an_architecture(run):
    result = run("contract", "resnet50", "--format", "json")
    document, told = _statements(result)
    assert result.returncode == 0
    assert told["mean", "torchvision"] == [0.485, 0.456, 0.406]
    assert told["classes", "the"] == 1000
    assert "batch /= numpy.array([0.229, 0.224, 0.225], numpy.float32)" in document["code"]["opencv"]


def test_what_lies_beside_the_weights_comes_before_the_library(run, tmp_path):
    import torchvision

    torch.save(
        {"state_dict": torchvision.models.resnet18(num_classes=3).state_dict(), "class_names": ["cat", "dog", "cup"]}, tmp_path / "w.pth"
    )
    ours = {
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": 96, "width": 96},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(ours))
    document, told = _statements(
        run("contract", tmp_path / "w.pth", "--arch", "resnet18", "--arch-arg", "num_classes=3", "--format", "json")
    )
    assert document["preprocessing"]["source"] == "preprocessor_config.json"
    assert (told["mean", "preprocessor_config.json"], told["mean", "torchvision"]) == ([0.5] * 3, [0.485, 0.456, 0.406])
    assert document["preprocessing"]["size"] == [96, 96]
    assert told["class names", "`class_names`"] == ["cat", "dog", "cup"]
    (tmp_path / "preprocessor_config.json").unlink()
    config = {
        "architecture": "resnet18",
        "pretrained_cfg": {"input_size": [3, 128, 128], "crop_pct": 0.9, "mean": [0.1] * 3, "std": [0.2] * 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    document, _ = _statements(run("contract", tmp_path / "w.pth", "--arch", "resnet18", "--arch-arg", "num_classes=3", "--format", "json"))
    assert (document["preprocessing"]["size"], document["preprocessing"]["resize"], document["preprocessing"]["mean"]) == (
        [128, 128],
        [142],
        [0.1] * 3,
    )


def test_nobody_says_anything(run, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2)).state_dict(), tmp_path / "w.pth")
    result = run("contract", tmp_path / "w.pth", "--format", "json")
    document, told = _statements(result)
    assert (result.returncode, document["preprocessing"], document["code"]) == (1, None, {})
    assert told["classes", "the"] == 2
    assert "probe" in document["open"][0]


def test_a_probe_fills_in(run, real, photographs):
    arguments = ("--arch", "tests/prove/networks.py:CifarResNet", "--images", photographs, "--input-size", "3x32x32", "--format", "json")
    document, told = _statements(run("contract", real / "cifar10_resnet20.th", *arguments))
    assert document["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert "among others" in document["preprocessing"]["source"]  # RGB or BGR: nobody can tell
    assert told["output", "probe:"] == "logits"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere.pth",), 3, "nowhere.pth: no such file"),
        (("nowhere.pth", "--arch", "resnet18"), 3, "no such file"),
        (("resnet18", "--images", "docs"), 2, "needs a checkpoint"),
        (("resnet5O",), 3, "resnet50"),
    ],
)
def test_wrong_usage_is_one_line(run, arguments, code, words):
    result = run("contract", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
