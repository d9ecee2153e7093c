"""What is this file? The right architecture first, under everything that training tools and people do to names and shapes."""

import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import jsonschema
import pytest
import torch
import torchvision

import ckptaudit
from ckptaudit.arch import build_model
from ckptaudit.arch.catalogue import shipped as shipped_catalogue
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.identification import identify
from ckptaudit.identification.index import shipped as shipped_index

ROOT = Path(__file__).parent.parent.parent
SCHEMA = json.loads((ROOT / "docs" / "identify-1.schema.json").read_text())


# Files, as lists of tensors --------------------------------------------------------------------------------------------


def tensors(arch, **arguments):
    return list(build_model(arch, arguments).graph)


def renamed(specs, rename):
    return [TensorSpec(rename(spec.name), spec.shape, spec.dtype, spec.buffer) for spec in specs]


def under(prefix, specs):
    return renamed(specs, lambda name: f"{prefix}.{name}")


def without(specs, *parts):
    return [spec for spec in specs if not any(part in spec.name for part in parts)]


def random_names(specs):
    letters = random.Random(0)
    return renamed(specs, lambda name: ".".join("".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in name.split(".")))


def other_input(specs, name, channels):
    return [TensorSpec(s.name, (s.shape[0], channels, *s.shape[2:]), s.dtype, s.buffer) if s.name == name else s for s in specs]


def channels_last(specs):
    """As Keras stores them: (h, w, in, out) and (in, out), no counters."""
    words = {"weight": "kernel", "running_mean": "moving_mean", "running_var": "moving_variance"}
    found = []
    for spec in without(specs, "num_batches_tracked"):
        *path, word = spec.name.split(".")
        shape = spec.shape if len(spec.shape) < 2 else (*spec.shape[2:], spec.shape[1], spec.shape[0])
        found.append(TensorSpec(f"{'_'.join(path)}/{words.get(word, word)}", shape, spec.dtype, spec.buffer))
    return found


def extra(prefix, *shapes):
    return [TensorSpec(f"{prefix}.{i}.weight", shape, "float32") for i, shape in enumerate(shapes)]


DECODER = extra("decoder", (256, 2048, 3, 3), (256, 256, 3, 3), (64, 256, 3, 3), (7, 64, 3, 3))
UNET = [
    TensorSpec(f"decoder.blocks.{block}.conv{1 + half}.{rest}", shape, "float32")
    for block, (inputs, outputs) in enumerate([(768, 256), (384, 128), (192, 64), (128, 32), (32, 16)])
    for half, channels in enumerate((inputs, outputs))
    for rest, shape in [
        ("0.weight", (outputs, channels, 3, 3)),
        *((f"1.{role}", (outputs,)) for role in ("weight", "bias", "running_mean", "running_var")),
    ]
]
MOMENTUM = [
    *under("encoder_q", without(tensors("resnet50"), "fc.")),
    *extra("encoder_q.mlp", (2048, 2048), (128, 2048)),
    *under("encoder_k", without(tensors("resnet50"), "fc.")),
    *extra("encoder_k.mlp", (2048, 2048), (128, 2048)),
    TensorSpec("queue", (128, 65536), "float32"),
]

# name → tensors, framework, architecture, arguments, prefix
FILES = {
    "as it is": (tensors("resnet50"), "torch", "resnet50", {"num_classes": 1000}, ""),
    "another head": (tensors("swin_t", num_classes=4), "torch", "swin_t", {"num_classes": 4}, ""),
    "no head": (without(tensors("convnext_tiny"), "classifier.2"), "torch", "convnext_tiny", {}, ""),
    "an auxiliary head": (
        tensors("deeplabv3_resnet101", num_classes=10, aux_loss=True),
        "torch",
        "deeplabv3_resnet101",
        {"num_classes": 10, "aux_loss": True},
        "",
    ),
    "wrapped": (under("module._orig_mod", tensors("vgg16_bn", num_classes=2)), "torch", "vgg16_bn", {"num_classes": 2}, ""),
    "in a trainer": (under("model.net", tensors("densenet121", num_classes=5)), "torch", "densenet121", {"num_classes": 5}, "model.net"),
    "random names": (random_names(tensors("regnet_y_400mf", num_classes=6)), "torch", "regnet_y_400mf", {"num_classes": 6}, ""),
    "numbered": (
        [TensorSpec(f"t{i}", s.shape, s.dtype, s.buffer) for i, s in enumerate(tensors("resnet18"))],
        "torch",
        "resnet18",
        {"num_classes": 1000},
        "",
    ),
    "random names of layers": (
        renamed(tensors("resnet18"), lambda name: f"layer_{zlib.crc32(name.rpartition('.')[0].encode())}.{name.rpartition('.')[2]}"),
        "torch",
        "resnet18",
        {"num_classes": 1000},
        "",
    ),
    "four channels": (
        other_input(tensors("timm:resnet26d", num_classes=3), "conv1.0.weight", 4),
        "torch",
        "resnet26d",
        {"num_classes": 3, "in_chans": 4},
        "",
    ),
    "in the order of the alphabet": (
        sorted(tensors("mobilenet_v2"), key=lambda s: s.name),
        "torch",
        "mobilenet_v2",
        {"num_classes": 1000},
        "",
    ),
    "without counters": (without(tensors("resnet18"), "num_batches_tracked"), "torch", "resnet18", {"num_classes": 1000}, ""),
    "without running statistics": (
        without(tensors("resnet34", num_classes=9), "num_batches_tracked", "running_"),
        "torch",
        "resnet34",
        {"num_classes": 9},
        "",
    ),
    "stored by Keras": (channels_last(tensors("resnet50", num_classes=8)), "keras", "resnet50", {"num_classes": 8}, ""),
    "an encoder with a decoder": ([*under("encoder", without(tensors("resnet101"), "fc.")), *DECODER], "torch", "resnet101", {}, "encoder"),
    "layers beside a decoder": ([*without(tensors("resnet34"), "fc."), *DECODER[:2]], "torch", "resnet34", {}, ""),
    "an encoder of four channels whose decoder looks like a deeper stem": (
        [*under("encoder", other_input(without(tensors("resnet34"), "fc."), "conv1.weight", 4)), *UNET],
        "torch",
        "resnet34",
        {},
        "encoder",
    ),
    "one encoder of two": (MOMENTUM, "torch", "resnet50", {}, "encoder_q"),
    "a stage is missing": (without(tensors("resnet152"), "layer4."), "torch", "resnet152", {"num_classes": 1000}, ""),
    "more blocks than any": (
        [*tensors("resnet152"), *renamed((s for s in tensors("resnet152") if "layer3.35." in s.name), lambda n: n.replace("35", "36"))],
        "torch",
        "resnet152",
        {"num_classes": 1000},
        "",
    ),
    "written by Keras": (tensors("keras:EfficientNetB0", classes=6), "keras", "EfficientNetB0", {"classes": 6}, ""),
    "written by Keras, without a head": (without(tensors("keras:ResNet50V2"), "predictions"), "keras", "ResNet50V2", {}, ""),
    "written by Keras under other names": (
        renamed(
            tensors("keras:MobileNetV2", classes=2),
            lambda name: f"layer_{zlib.crc32(name.rpartition('/')[0].encode())}/{name.rpartition('/')[2]}",
        ),
        "keras",
        "MobileNetV2",
        {"classes": 2},
        "",
    ),
    "a detector with several boxes at each place": (
        tensors("retinanet_resnet50_fpn", num_classes=5),
        "torch",
        "retinanet_resnet50_fpn",
        {"num_classes": 5},
        "",
    ),
    "a detector": (tensors("fasterrcnn_resnet50_fpn", num_classes=3), "torch", "fasterrcnn_resnet50_fpn", {"num_classes": 3}, ""),
}

NOT_WHOLE = {"without running statistics", "a stage is missing", "more blocks than any"}
#: Their names put no tensors together as layers: shapes alone speak, and no plan can be made.
SCATTERED = {"random names", "numbered"}


@pytest.mark.parametrize("file", FILES)
def test_the_right_one_is_first(file):
    specs, framework, arch, arguments, prefix = FILES[file]
    found = identify(LayerGraph.from_tensors(specs, framework))
    first = found.candidates[0]
    assert arch in (first.arch, *first.equivalents)
    assert (dict(first.arguments), first.prefix) == (arguments, prefix)
    assert found.certainty == ("likely" if file in NOT_WHOLE | SCATTERED else "sure")
    assert any("by shapes alone" in line for line in first.evidence) == (file in SCATTERED)
    told = [line for candidate in found.candidates for line in candidate.evidence if "input channels" in line]
    assert "four channels" in file or not told
    scores = [candidate.score for candidate in found.candidates]
    assert all(0 <= score <= 1 for score in scores)
    json.dumps(found.to_json())
    jsonschema.validate(found.to_json(), SCHEMA)


@pytest.mark.parametrize(
    ("specs", "certainty"),
    [
        ([], "unknown"),
        ([TensorSpec("step", (), "int64")], "unknown"),
        (extra("net", (17, 3, 3, 3), (17, 17, 3, 3), (5, 17)), "unknown"),
        (tensors("resnet50")[:12], "unknown"),
        # torchvision and timm call these tensors otherwise; without names it may be either.
        (random_names(tensors("efficientnet_b0")), "likely"),
    ],
)
def test_doubt_is_said(specs, certainty):
    assert identify(LayerGraph.from_tensors(specs)).certainty == certainty


@pytest.mark.parametrize(
    ("arch", "certainty", "first"),
    [
        # Twelve blocks of one width, as in many a ViT; and what reads the input is another thing.
        ("BertModel", "unknown", None),
        ("GPT2LMHeadModel", "unknown", None),
        ("BartModel", "unknown", None),
        # Queries, keys and values in pieces, and few different shapes: likely, not sure.
        ("ViTForImageClassification", "likely", "vit_base_patch16_224"),
        ("SwinForImageClassification", "likely", "swin_t"),
        ("ConvNextForImageClassification", "sure", "convnext_tiny"),
        ("DetrForObjectDetection", "sure", "resnet50"),
    ],
)
def test_what_transformers_calls_otherwise(arch, certainty, first):
    found = identify(build_model(f"transformers:{arch}").graph)
    best = found.candidates[0]
    assert found.certainty == certainty
    assert first is None or first in {name.rpartition(":")[2] for name in (best.arch, *best.equivalents)}


def test_equivalents_are_shown_and_metadata_decides_among_them():
    graph = LayerGraph.from_tensors(tensors("resnet50"))
    plain, told = identify(graph).best, identify(graph, {"resnetblur50", "sgd"}).best
    assert plain.arch == "resnet50"
    assert {"timm:resnet50", "resnetaa50", "resnetblur50"} <= set(plain.equivalents)
    assert (told.arch, told.call) == ("resnetblur50", "timm.create_model('resnetblur50', num_classes=1000)")


@pytest.mark.parametrize("file", ["an auxiliary head", "another head", "a detector"])
def test_the_call_builds_it(file):
    specs, framework, *_ = FILES[file]
    call = identify(LayerGraph.from_tensors(specs, framework)).best.call
    with torch.device("meta"):
        model = eval(call, {"torchvision": torchvision})
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {spec.name: spec.shape for spec in specs}


def test_the_index_is_the_catalogues():
    assert shipped_index().catalogue == zlib.crc32(shipped_catalogue().data), "run tools/make_index.py"


# The benchmark on a sample ---------------------------------------------------------------------------------------------


def test_of_a_sample_of_all_architectures_the_right_one_is_first():
    program = [sys.executable, ROOT / "benchmarks" / "identify_all.py", "--every", "110"]
    result = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# The command -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "code", "certainty", "arch", "arguments"),
    [
        ("dataparallel_10classes.pth", 0, "sure", "deeplabv3_resnet50", {"num_classes": 10}),
        ("untrained_head_bn.pth", 0, "sure", "deeplabv3_resnet50", {"num_classes": 21, "aux_loss": True}),
        ("resnet101_backbone.pth", 0, "sure", "deeplabv3_resnet101", {"num_classes": 21}),
        ("tiny_unet_sharded", 1, "unknown", None, None),
    ],
)
def test_identify_as_json(run, samples, sample, code, certainty, arch, arguments):
    result = run("identify", samples / sample, "--format", "json")
    assert result.returncode == code, result.stderr
    found = json.loads(result.stdout)
    jsonschema.validate(found, SCHEMA)
    assert found["certainty"] == certainty
    if arch is None:
        assert found["candidates"] == []  # nothing comes near
        return
    first = found["candidates"][0]
    assert (first["arch"], first["arguments"]) == (arch, arguments)


IDENTIFIED = """\
✓ sure  dataparallel_10classes.pth → deeplabv3_resnet50
  torchvision.models.segmentation.deeplabv3_resnet50(weights=None,
  weights_backbone=None, num_classes=10)

1.00  deeplabv3_resnet50  num_classes=10
      300 of its 300 tensors outside the head agree in shape, 300 in name too
      10 classes

"""


def test_identify_at_the_terminal(run):
    result = run("identify", "sample_ckpts/dataparallel_10classes.pth")
    assert result.stdout.startswith(IDENTIFIED)
    command = "ckptaudit diff sample_ckpts/dataparallel_10classes.pth --arch deeplabv3_resnet50 --arch-arg num_classes=10"
    assert result.stdout.endswith(f"\nnext  {command}\n")
    assert run(*command.split()[1:], "-q").returncode == 0
    unknown = run("identify", "sample_ckpts/tiny_unet_sharded", "-q")
    assert unknown.returncode == 1
    assert "No architecture of the catalogue fits" in unknown.stdout


def resnet18(spelled=lambda name: name):
    return {spelled(spec.name): torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in tensors("resnet18")}


@pytest.mark.parametrize(
    ("content", "options", "command"),
    [
        ({"net": resnet18(lambda name: f"body.{name}")}, "", "--arch resnet18 --arch-arg num_classes=1000"),
        ({"raw": resnet18(), "other": resnet18()}, "--branch other", "--arch resnet18 --arch-arg num_classes=1000 --branch other"),
        (resnet18(lambda name: name.replace(".", "_")), "", None),
        (resnet18(lambda name: f"t{zlib.crc32(name.encode())}"), "", None),
        (dict(list(resnet18().items())[:3]), "", None),
    ],
)
def test_a_diff_that_would_match_nothing_is_not_suggested(run, content, options, command, tmp_path):
    torch.save(content, path := tmp_path / "a.pth")
    next_line = run("identify", path, *options.split()).stdout.splitlines()[-1]
    assert next_line.startswith("next  ") is (command is not None)
    if command is not None:
        assert next_line == f"next  ckptaudit diff {path} {command}"
        diff = json.loads(run(*next_line.split()[2:], "--format", "json").stdout)
        assert diff["coverage"]["tensors"] == [102, 102]


def test_diff_without_an_architecture_identifies_first(run):
    result = run("diff", "sample_ckpts/dataparallel_10classes.pth", "--format", "json")
    audit = json.loads(result.stdout)
    assert (result.returncode, audit["model"]["arch"], audit["verdict"]["status"]) == (0, "deeplabv3_resnet50", "remappable")
    (remark,) = [finding["message"] for finding in audit["findings"] if finding["rule"] == "remarks"]
    assert remark == "no architecture was given: by its tensors the file holds deeplabv3_resnet50"
    other = ckptaudit.audit(ROOT / "sample_ckpts" / "dataparallel_10classes.pth", arguments={"num_classes": 21})
    assert {finding.rule for finding in other.findings} == {"wrapper-prefix", "num-classes", "remarks"}


@pytest.mark.parametrize(("arch", "rule"), [("vgg16", "architecture-variant"), ("sample_ckpts/tiny_unet.py:build", "nothing-matched")])
def test_a_wrong_architecture_is_told_the_right_one(run, run_beside_torch, arch, rule):
    result = run("diff", "sample_ckpts/resnet101_backbone.pth", "--arch", arch, "--format", "json")
    finding = next(finding for finding in json.loads(result.stdout)["findings"] if finding["rule"] == rule)
    assert finding["fix"] == "build deeplabv3_resnet101"
    page = run_beside_torch("diff", "sample_ckpts/resnet101_backbone.pth", "--arch", arch).stdout
    assert page.endswith("next  ckptaudit diff sample_ckpts/resnet101_backbone.pth --arch deeplabv3_resnet101\n")
