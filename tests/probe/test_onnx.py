"""``ckptaudit probe`` of ONNX files, run as they are: what is wrong is ranked first, and what a folded file cannot tell is not told."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import nn

from ckptaudit.probe import Question
from ckptaudit.probe.exported import probe_export
from ckptaudit.read import open_checkpoint
from tests.exports import export, with_statistics

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "probe-1.schema.json").read_text())


def probed(path, **asked):
    outcome = probe_export(open_checkpoint(path), None, Question(crops=12, **asked))
    jsonschema.validate(outcome.to_json(), SCHEMA)
    return outcome, {hypothesis.cause: hypothesis for hypothesis in outcome.hypotheses}


@pytest.fixture(scope="module")
def resnet(cifar, tmp_path_factory):
    """A network that was trained on real images, with its BatchNorm."""
    return export(cifar(20), tmp_path_factory.mktemp("resnet") / "m.onnx", fold=False, free_batch=True)


@pytest.mark.parametrize(("preprocess", "cause"), [("0..1", "preprocessing"), ("imagenet", None)])
def test_statistics_that_are_left_tell_how_images_are_fed(resnet, photographs, preprocess, cause):
    outcome, told = probed(resnet, images=photographs, preprocess=preprocess, read="argmax", classes=10)
    assert [hypothesis.cause for hypothesis in outcome.causes] == ([cause] if cause else [])
    assert told["preprocessing"].figures["scores"][0]["name"].startswith("imagenet")
    assert len(outcome.agreement.layers) == 19
    assert told["batch-norm"].status == "cleared"
    assert outcome.output.classes == 10


def test_one_image_at_a_time_and_a_wrong_mapping(cifar, photographs, tmp_path):
    """Exported for batches of one; two convolutions are exchanged."""
    module = cifar(20)
    first, second = module.get_submodule("stages.2.1.c1"), module.get_submodule("stages.2.1.c2")
    first.weight.data, second.weight.data = second.weight.data.clone(), first.weight.data.clone()
    outcome, told = probed(export(module, tmp_path / "m.onnx", fold=False), images=photographs, preprocess="imagenet")
    assert outcome.hypotheses[0].cause == "batch-norm"
    assert "stages.2.1" in told["batch-norm"].place[0]


def test_a_folded_file_says_what_it_cannot_tell(cifar, photographs, run, tmp_path):
    export(cifar(20), tmp_path / "m.onnx", free_batch=True, anonymous=True)
    result = run("probe", tmp_path / "m.onnx", "--images", photographs, "--crops", "12", "--read", "sigmoid", "--format", "json")
    document = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    told = {hypothesis["cause"]: hypothesis for hypothesis in document["hypotheses"]}
    assert {told["preprocessing"]["status"], told["batch-norm"]["status"]} == {"not tested"}
    assert "folded" in told["preprocessing"]["message"]
    assert (told["numbers"]["status"], told["mode"]["status"], told["opencv"]["status"]) == ("cleared", "cleared", "cleared")
    assert document["output"]["kind"] == "logits"


class Small(nn.Module):
    def __init__(self, after=None, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(8, 4, 1))
        self.after = after
        with_statistics(self)

    def forward(self, x):
        return self.body(x) if self.after is None else self.after(self.body(x))


def no_number(module):
    module.body[4].weight.data[0] = float("nan")


@pytest.mark.parametrize(
    ("module", "damage", "asked", "options", "cause", "said"),
    [
        (Small(), no_number, {}, {}, "numbers", "NaN"),
        (Small(lambda x: x.softmax(1)), None, {"read": "softmax"}, {}, "reading", "been through a softmax already"),
        (Small(lambda x: x.argmax(1)), None, {"read": "argmax:3"}, {}, "reading", "wrong axis"),
        (Small(), None, {"classes": 9}, {}, "head", "9"),
        (Small(dropout=0.5), None, {}, {"train": True}, "mode", "exported in train mode"),
    ],
    ids=["no number", "softmax twice", "scores behind class numbers", "classes", "train mode"],
)
def test_causes(module, damage, asked, options, cause, said, tmp_path):
    if damage is not None:
        module = Small()
        damage(module)
    outcome, _ = probed(export(module, tmp_path / "m.onnx", free_batch=not options, **options), **asked)
    assert (outcome.hypotheses[0].cause, outcome.hypotheses[0].status) == (cause, "cause"), outcome.hypotheses[0].message
    assert said in outcome.hypotheses[0].message


def test_what_opencv_makes_of_it(tmp_path, monkeypatch):
    import cv2

    path = export(Small(), tmp_path / "m.onnx")
    _, told = probed(path)
    assert (told["opencv"].status, told["opencv"].figures["version"]) == ("cleared", cv2.__version__)

    class Wrong:
        def __getattr__(self, name):
            return getattr(net, name)

        def forward(self, *names):
            return net.forward(*names) + 1

    net = cv2.dnn.readNetFromONNX(str(path))
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda path: Wrong())
    _, told = probed(path)
    assert (told["opencv"].status, "another output than onnxruntime" in told["opencv"].message) == ("possible", True)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    _, told = probed(path)
    assert told["opencv"].status == "not tested"


def test_a_file_that_cannot_be_run_is_one_line(run, tmp_path):
    module = nn.Sequential(nn.Linear(4, 3))
    result = run("probe", export(module, tmp_path / "m.onnx", (4,)))
    assert (result.returncode, result.stdout) == (3, "")
    assert "no image" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_code_of_a_contract_with_images(resnet, photographs, run):
    result = run("contract", resnet, "--images", photographs, "--format", "json")
    document = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert document["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert "among others" in document["preprocessing"]["source"]  # RGB or BGR: nobody can tell
    assert "batch /= numpy.array([0.229, 0.224, 0.225]" in document["code"]["opencv"]
