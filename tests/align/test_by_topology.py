"""ONNX exports without names: every layer is found by the dataflow, the right one, and what differs is named."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

import ckptaudit
from ckptaudit.align.by_topology import align_by_topology
from ckptaudit.arch import build_model
from ckptaudit.arch.computing import with_computation
from ckptaudit.read import open_checkpoint
from tests.exports import export, with_statistics

models = torchvision.models
#: Builder, size of the input, layers with weights, and how many BatchNorm layers are folded.
NETWORKS = {
    "resnet18": (models.resnet18, (3, 64, 64), 21, 20),
    "mobilenet_v2": (models.mobilenet_v2, (3, 64, 64), 53, 52),
    "deeplabv3": (lambda: models.segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None), (3, 64, 64), 70, 53),
    "unet": (lambda: smp.Unet("resnet18", encoder_weights=None, classes=4), (3, 64, 64), 31, 30),
    "densenet": (lambda: models.DenseNet(8, (3, 3), 16), (3, 64, 64), 23, 7),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64), (3, 64, 64), 15, 0),
    "vit_of_torch": (lambda: models.VisionTransformer(32, 8, 2, 2, 32, 64), (3, 32, 32), 15, 0),
    "swin": (lambda: models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4]), (3, 32, 32), None, 0),
    "convnext": (lambda: timm.create_model("convnext_atto", depths=(1, 1, 2, 1)), (3, 64, 64), None, 0),
    "transposed": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)),
        (3, 16, 16),
        3,
        1,
    ),
    "squares": (lambda: nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))), (5, 8), 4, 0),
}


def outputs(module, inputs):
    with torch.no_grad():
        given = module(inputs)
    return given["out"] if isinstance(given, dict) else given


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_found_and_the_plan_gives_the_outputs(name, tmp_path):
    build, size, layers, folded = NETWORKS[name]
    module = with_statistics(build())
    opened = open_checkpoint(export(module, tmp_path / "m.onnx", size, anonymous=True))
    audit = ckptaudit.audit(opened, module)
    found = align_by_topology(opened.graph, with_computation(build_model(module), [size]).graph)
    assert found.extent == "same"
    assert Counter(pair.grade for pair in found.layers) == {"decided": found.counts[1]}
    assert layers in (None, len(found.layers))
    assert sum(pair.folded for pair in found.layers) == folded
    restored = with_statistics(build(), seed=1)
    state = {key: torch.from_numpy(value.copy()) for key, value in audit.plan.apply(opened).items()}
    left = {key: value for key, value in module.state_dict().items() if key not in state}
    restored.load_state_dict({**left, **state})
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(2))
    wanted = outputs(module, image)
    assert (outputs(restored, image) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    # What is left: tables that exporters compute with.
    assert all("relative_position" in key or "num_batches" in key for key in left), list(left)
    assert audit.verdict.fit == (name not in ("swin",))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A resnet18 without names, its checkpoint, and the module."""
    folder = tmp_path_factory.mktemp("resnet")
    module = with_statistics(models.resnet18())
    torch.save(module.state_dict(), folder / "resnet18.pth")
    return export(module, folder / "m.onnx", (3, 64, 64), anonymous=True), folder / "resnet18.pth", module


def test_another_network_is_named(resnet):
    audit = ckptaudit.audit(resnet[0], "resnet34")
    (finding,) = [finding for finding in audit.findings if finding.rule == "other-dataflow"]
    assert "the first 5 correspond" in finding.message
    assert "`layer1.2.conv1` of the model" in finding.message
    assert audit.verdict.summary.startswith("The file holds resnet18; ")
    assert not audit.verdict.fit


def test_values_agree_with_the_checkpoint(run, resnet):
    result = run("diff", resnet[0], "--against", resnet[1])  # whose architecture is sure
    assert result.returncode == 0, result.stdout
    assert "All 21 layers that were compared hold the values" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("damage", "differing", "said"),
    [
        (("layer3.1.conv1.weight", "layer3.1.conv2.weight"), {"layer3.1.conv1", "layer3.1.conv2"}, "weight is that of `layer3.1.conv2`"),
        (("layer2.1.bn1.bias",), {"layer2.1.conv1"}, "off by"),
        (("layer2.1.bn2.running_var",), {"layer2.1.conv2"}, "off by"),
        (("fc.weight",), {"fc"}, "off by"),
    ],
)
def test_layers_with_other_values_are_found(resnet, tmp_path, damage, differing, said):
    state = torch.load(resnet[1])
    if len(damage) == 2:
        state[damage[0]], state[damage[1]] = state[damage[1]], state[damage[0]]
    else:
        state[damage[0]] = state[damage[0]] * 1.01
    torch.save(state, tmp_path / "other.pth")
    audit = ckptaudit.audit(resnet[0], "resnet18", twin=tmp_path / "other.pth")
    (finding,) = [finding for finding in audit.findings if finding.rule == "other-values"]
    assert (finding.severity, audit.verdict.status) == ("error", "incompatible")
    assert {name.replace("bn", "conv").rpartition(".")[0] for name in finding.model} == differing
    assert said in finding.message


def test_a_head_of_other_classes_and_a_stem_of_other_channels(resnet):
    audit = ckptaudit.audit(resnet[0], "resnet18", arguments={"num_classes": 7}, intent="finetune")
    assert (audit.verdict.status, audit.verdict.fit, set(audit.mismatched)) == ("partial", True, {"fc.weight", "fc.bias"})
    other = models.resnet18()
    other.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    assert set(ckptaudit.audit(resnet[0], other).mismatched) == {"conv1.weight"}


def test_another_dilation_is_found(tmp_path):
    def net(dilation):
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=dilation, dilation=dilation), nn.Conv2d(8, 2, 1))

    path = export(net(1), tmp_path / "m.onnx", anonymous=True)
    (finding,) = [f for f in ckptaudit.audit(path, net(2)).findings if f.rule == "attribute-drift"]
    assert "`2` has dilation [2, 2]; in the model that the file belongs to it is [1, 1]" in finding.message


class Twins(nn.Module):
    """Two branches that nothing tells apart, and two that their place in a concatenation does."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.c, self.d = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.a(x) + self.b(x)
        return self.head(torch.cat([self.c(x), self.d(x)], 1))


def test_branches_that_nothing_tells_apart_are_open_until_values_decide(tmp_path):
    module = with_statistics(Twins())
    opened = open_checkpoint(export(module, tmp_path / "m.onnx", anonymous=True))
    grades = {name: pair.grade for name, pair in _pairs(opened, module).items()}
    assert {name for name, grade in grades.items() if grade == "ambiguous"} == {"a.weight", "a.bias", "b.weight", "b.bias"}
    torch.save(module.state_dict(), tmp_path / "m.pth")
    audit = ckptaudit.audit(opened, module, twin=tmp_path / "m.pth")
    assert all(step.grade == "decided" for step in audit.plan.steps)
    state = audit.plan.apply(opened)
    assert all((torch.from_numpy(state[name].copy()) == value).all() for name, value in module.state_dict().items())


def _pairs(opened, module):
    return align_by_topology(opened.graph, with_computation(build_model(module)).graph).alignment.pairs


def test_an_export_without_a_live_model_is_a_guess(resnet):
    """A folded convolution looks like the one that it was; what is not followed is not sure."""
    model = build_model("resnet18")
    audit = ckptaudit.audit(resnet[0], replace(model, provenance="file", module=None))
    assert not audit.verdict.fit
    assert "folded-export" in {finding.rule for finding in audit.findings}
    assert not any(step.grade != "ambiguous" for step in audit.plan.steps if "conv" in step.target or "downsample.0" in step.target)


def test_names_of_nodes_are_read(real):
    """The real twin of an official checkpoint: 17 of its kernels have a number for a name, and their nodes tell which they are."""
    index = open_checkpoint(real / "deeplabv3_mnv2_pascal.ckpt-30000.index")
    audit = ckptaudit.audit(real / "deeplabv3_mnv2_dm05.onnx", real / "deeplabv3_mnv2_pascal.ckpt-30000.index")
    corresponding = len(audit.plan.steps) + len(audit.mismatched)
    assert corresponding == len(index.graph.tensors) == 272
    facts = audit.facts[0]
    assert (facts.backbone, facts.num_classes, facts.in_channels, facts.decoder) == ("mobilenet_v2 of width 0.5", 2, 3, "deeplabv3")
    assert "mobilenet_v2 of width 0.5" in audit.verdict.summary
