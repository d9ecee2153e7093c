"""What an ONNX graph says of itself; the code that is printed for it is run by OpenCV and onnxruntime, and gives what torch gives."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image
from torch import nn

from ckptaudit.contract import make_contract
from ckptaudit.read import open_checkpoint
from tests.exports import export

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "contract-1.schema.json").read_text())
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Net(nn.Module):
    """A small segmentation net that does what a case asks of it before its first layer and behind its last."""

    def __init__(self, before=None, after=None, last=False):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
        self.before, self.after, self.last = before, after, last
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.eval()

    def forward(self, x):
        x = x.permute(0, 3, 1, 2) if self.last else x
        x = (x if self.before is None else self.before(self, x)).contiguous()
        x = self.body(x)
        return x if self.after is None else self.after(x)


def normalise(net, x):
    return (x - net.mean) / net.std


def normalise_pixels(net, x):
    return (x / 255 - net.mean) / net.std


#: What the graph does before and after, its layout; scale that is left to do, what is said to come out, and what is said beside.
CASES = {
    "logits": (Net(), None, "logits"),
    "softmax": (Net(after=lambda x: x.softmax(1)), None, "probabilities"),
    "sigmoid": (Net(after=torch.sigmoid), None, "sigmoid probabilities"),
    "class numbers": (Net(after=lambda x: x.argmax(1)), None, "class numbers"),
    "resized": (Net(after=lambda x: nn.functional.interpolate(x, scale_factor=2)), None, "logits"),
    "normalises": (Net(normalise), 1 / 255, "logits"),
    "normalises pixels": (Net(normalise_pixels), 1.0, "logits"),
    "channels last": (Net(last=True), None, "logits"),
}


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("library", ["opencv", "onnxruntime"])
@pytest.mark.parametrize("case", CASES)
def test_the_code_that_is_printed_gives_what_torch_gives(case, library, picture, tmp_path, monkeypatch):
    net, scale, output = CASES[case]
    opened = open_checkpoint(export(net, tmp_path / "m.onnx", (16, 24, 3) if net.last else (3, 16, 24)))
    contract = make_contract("m.onnx", None, opened)
    jsonschema.validate(contract.to_json(), SCHEMA)
    told = {statement.what: statement.value for statement in contract.statements}
    assert (told["size"], told["layout"], told["output"]) == ([16, 24], "NHWC" if net.last else "NCHW", output)
    assert (None if contract.preprocessing is None else contract.preprocessing.scale) == scale
    assert ("a guess" in contract.code[library]) == (scale is None)
    monkeypatch.chdir(tmp_path)  # where the code looks for the file
    names = {"path": str(picture)}
    exec(contract.code[library], names)
    pixels = torch.from_numpy(np.array(Image.open(picture))).float() * (1 / 255 if scale is None else scale)
    with torch.no_grad():
        wanted = net((pixels if net.last else pixels.permute(2, 0, 1))[None]).numpy()
    np.testing.assert_allclose(names["output"], wanted, atol=1e-4)
    answer = {"class numbers": lambda: wanted[0], "sigmoid probabilities": lambda: wanted[0] > 0.5}.get(
        output, lambda: wanted.argmax(1)[0]
    )()
    assert (names["answer"] == answer).mean() > 0.98  # rounding may decide a pixel


def test_a_published_network_without_names_is_fed_as_its_library_states(run, tmp_path):
    import torchvision

    path = export(torchvision.models.resnet18().eval(), tmp_path / "m.onnx", (3, 64, 64), anonymous=True)
    result = run("contract", path, "--format", "json")
    document = json.loads(result.stdout)
    assert result.returncode == 0
    assert (document["preprocessing"]["size"], document["preprocessing"]["mean"]) == ([64, 64], MEAN)
    assert "cv2.resize(image, (64, 64)" in document["code"]["opencv"]
    assert "batch /= numpy.array([0.229, 0.224, 0.225]" in document["code"]["opencv"]


def edited(path, change):
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return open_checkpoint(path)


def free_sizes(model):
    for axis, word in ((0, "N"), (2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = word


def foreign(model):
    model.opset_import.append(helper.make_opsetid("my.company", 1))
    next(node for node in model.graph.node if node.op_type == "Relu").domain = "my.company"


def crop_and_resize(model):
    node = next(node for node in model.graph.node if node.op_type == "Resize")
    next(a for a in node.attribute if a.name == "coordinate_transformation_mode").s = b"tf_crop_and_resize"


def no_shape(model):
    model.graph.output[0].type.tensor_type.ClearField("shape")


@pytest.mark.parametrize(
    ("case", "change", "said"),
    [
        ("logits", free_sizes, "may be any: `N`, `H`, `W`"),
        ("logits", foreign, "operators of my.company are none of ONNX's"),
        ("resized", crop_and_resize, "tf_crop_and_resize, which OpenCV does not have"),
        ("logits", no_shape, "OpenCV 5.0 refuses that"),
        ("channels last", lambda model: None, "the code transposes"),
        ("logits", lambda model: None, None),
    ],
)
def test_what_opencv_stumbles_over_is_said(case, change, said, tmp_path):
    import cv2

    net = CASES[case][0]
    opened = edited(export(net, tmp_path / "m.onnx", (16, 24, 3) if net.last else (3, 16, 24)), change)
    lines = [line for line in make_contract("m.onnx", None, opened).open if "how images are scaled" not in line and "the size" not in line]
    assert (said in " ".join(lines)) if said else not lines, lines
    if change in (foreign, crop_and_resize, no_shape):
        with pytest.raises(cv2.error):
            cv2.dnn.readNetFromONNX(str(tmp_path / "m.onnx"))
