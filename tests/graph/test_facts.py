"""Facts that a person would state, from names and shapes alone."""

from collections import OrderedDict

import pytest

from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.facts import facts_of
from ckptaudit.graph.heads import Head, auxiliary_scopes, head_scope, main_head


def graph(shapes, framework="torch"):
    return LayerGraph.from_tensors([TensorSpec(name, tuple(shape), "float32") for name, shape in shapes.items()], framework)


def layers(*rows):
    """Weights and biases of layers that are written as ``("path", outputs, inputs, …)``; a path that ends in ``*`` has a bias."""
    shapes = OrderedDict()
    for path, *shape in rows:
        shapes[f"{path.rstrip('*')}.weight"] = shape
        if path.endswith("*"):
            shapes[f"{path.rstrip('*')}.bias"] = shape[:1]
    return graph(shapes)


@pytest.mark.parametrize(
    ("what", "rows", "expected"),
    [
        ("the last of a sequence", [("features.0*", 8, 3, 3, 3), ("classifier.0*", 16, 8), ("classifier.3*", 5, 16)], ("classifier.3", 5)),
        ("not the auxiliary one", [("conv*", 8, 3, 3, 3), ("fc*", 5, 8), ("aux_classifier.4*", 5, 8)], ("fc", 5)),
        ("not squeeze and excitation", [("stem", 8, 3, 3, 3), ("head*", 5, 8), ("blocks.0.se.fc.0*", 2, 8)], ("head", 5)),
        ("not the output of a block", [("layer.0.output.dense*", 8, 8), ("layer.1.output.dense*", 8, 8), ("score*", 3, 8)], ("score", 3)),
        ("the only one with a bias", [("a.0", 8, 3, 3, 3), ("a.1", 8, 8, 3, 3), ("b.3*", 21, 8, 1, 1), ("c.0", 8, 8, 1, 1)], ("b.3", 21)),
        ("the last of all", [("l1*", 8, 3), ("l2*", 8, 8), ("l3*", 4, 8)], ("l3", 4)),
        ("none among equals", [("conv3*", 32, 16, 3, 3), ("conv4_1*", 2, 32, 1, 1), ("conv4_2*", 4, 32, 1, 1)], None),
        ("not boxes", [("cls_score*", 7, 64), ("bbox_pred*", 28, 64)], ("cls_score", 7)),
        ("none", [], None),
    ],
)
def test_main_head(what, rows, expected):
    head = main_head(layers(*rows))
    assert (head and (head.path, head.outputs)) == expected


@pytest.mark.parametrize(
    ("what", "rows", "expected"),
    [
        ("by number", [("0*", 8, 3), ("10*", 5, 8), *((f"{i}*", 8, 8) for i in range(2, 10, 2))], ("10", 5)),
        ("by name", [("body.0*", 8, 3), ("fc*", 5, 8), ("neck*", 8, 8)], ("fc", 5)),
        ("not known", [("body.0*", 8, 3), ("last*", 5, 8), ("neck*", 8, 8)], None),
    ],
)
def test_main_head_of_names_in_alphabetical_order(what, rows, expected):
    shapes = layers(*rows).tensors
    head = main_head(graph({name: shapes[name].shape for name in sorted(shapes)}))
    assert (head and (head.path, head.outputs)) == expected


@pytest.mark.parametrize(
    ("rows", "channels"),
    [
        ([("stem", 16, 3, 3, 3), ("body.0", 16, 16, 3, 3), ("head", 5, 16, 1, 1)], 3),
        ([("body.0", 16, 16, 3, 3), ("head", 5, 16, 1, 1), ("stem", 16, 3, 3, 3)], 3),
        ([("body.0", 16, 1, 3, 3), ("head", 5, 16, 1, 1), ("stem", 16, 4, 3, 3)], 4),
        ([("body.0", 16, 16, 3, 3), ("head", 5, 16, 1, 1), ("stem", 16, 6, 3, 3)], 16),  # nothing tells
        ([("stem", 16, 6, 3, 3), ("body.0", 3, 16, 3, 3), ("body.1", 16, 3, 3, 3)], 6),  # in the order of computation
    ],
)
def test_the_stem_of_names_in_alphabetical_order(rows, channels):
    assert facts_of(layers(*rows)).in_channels == channels


def test_anchors_are_no_classes():
    found = main_head(layers(("head.cls_logits*", 819, 256, 3, 3), ("head.bbox_reg*", 36, 256, 3, 3)))
    assert found == Head("head.cls_logits", 819, anchors=9)
    assert found.classes == 91


def test_a_transposed_convolution_is_told_by_its_bias():
    assert main_head(graph({"up.weight": (16, 20, 2, 2), "up.bias": (20,), "out.weight": (16, 19, 2, 2), "out.bias": (19,)})).outputs == 19


def test_keras_kernels_have_their_outputs_last():
    assert main_head(graph({"dense/kernel:0": (64, 10), "dense/bias:0": (10,)}, "keras")).outputs == 10


@pytest.mark.parametrize(
    ("path", "stem", "scope"),
    [
        ("classifier.4", "backbone.conv1", "classifier"),
        ("model.classifier.4", "model.backbone.conv1", "model.classifier"),
        ("module.linear", "module.conv1", "module.linear"),
        ("fc", None, "fc"),
    ],
)
def test_head_scope_holds_the_head_and_not_the_stem(path, stem, scope):
    assert head_scope(graph({}), Head(path, 5), stem) == scope


def test_auxiliary_scopes_are_whole_segments():
    assert auxiliary_scopes(["aux_classifier.0.weight", "AuxLogits.fc.bias", "auxin.weight", "m.aux1.fc.weight", "faux.weight"]) == (
        "aux_classifier",
        "AuxLogits",
        "m.aux1",
    )


def test_one_input_channel_is_seen_although_the_kernel_looks_depthwise():
    assert facts_of(layers(("conv1", 64, 1, 7, 7), ("conv2", 64, 64, 3, 3))).in_channels == 1


@pytest.mark.parametrize(
    ("extra", "backbone"),
    [
        ({}, "resnet18"),
        ({"layer1.0.se.fc1.weight": (4, 64)}, "resnet18 with `se`"),
        ({"layer1.0.downsample.0.weight": (64, 64, 1, 1)}, "resnet18"),
    ],
)
def test_what_a_block_holds_beside_is_named(extra, backbone):
    shapes = {f"layer{s}.{b}.conv{c}.weight": (64, 64, 3, 3) for s in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)}
    assert facts_of(graph({**shapes, **extra})).backbone == backbone


def test_a_detectors_tower_is_no_pyramid():
    tower = layers(*((f"mask_head.convs.{i}*", 256, 256, 3, 3) for i in range(4)), ("squeeze*", 48, 256, 1, 1))
    facts = facts_of(tower)
    assert (facts.decoder, facts.atrous_branches) == (None, None)


PUBLISHED_DECODERS = {
    "deeplabv3plus": [
        ("classifier.project.0", 48, 256, 1, 1),
        ("classifier.aspp.convs.0.0", 256, 2048, 1, 1),
        *((f"classifier.aspp.convs.{i}.0", 256, 2048, 3, 3) for i in (1, 2, 3)),
    ],
    "deeplabv3": [("head.aspp_modules.0.conv", 256, 2048, 1, 1), *((f"head.aspp_modules.{i}.conv", 256, 2048, 3, 3) for i in (1, 2, 3))],
}


@pytest.mark.parametrize(("decoder", "rows"), PUBLISHED_DECODERS.items())
def test_decoders_of_published_ports(decoder, rows):
    facts = facts_of(layers(("backbone.low", 48, 24, 1, 1), *rows))
    assert (facts.decoder, facts.atrous_branches) == (decoder, 3)


ONE_OF_EACH = {
    **dict.fromkeys(("alexnet", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "regnet_y_400mf", "squeezenet1_0", "r3d_18")),
    **{
        name: name
        for name in ("convnext_tiny", "densenet121", "efficientnet_b2", "efficientnet_v2_s", "mobilenet_v2", "mobilenet_v3_small")
    },
    **{name: name for name in ("resnet34", "resnext50_32x4d", "wide_resnet50_2", "shufflenet_v2_x1_0", "swin_t", "swin_v2_t", "vgg13_bn")},
    "vit_b_32": "vit_b_32",
    "deeplabv3_mobilenet_v3_large": "mobilenet_v3_large",
    "fcn_resnet50": "resnet50",
    "lraspp_mobilenet_v3_large": "mobilenet_v3_large",
    "fasterrcnn_resnet50_fpn": "resnet50",
    "retinanet_resnet50_fpn": "resnet50",
    "ssd300_vgg16": None,
}


@pytest.mark.parametrize(("name", "backbone"), ONE_OF_EACH.items())
def test_facts_of_torchvision(name, backbone):
    facts = facts_of(build_model(name, {"num_classes": 7}).graph)
    assert (facts.num_classes, facts.in_channels, facts.backbone) == (7, 3, backbone)
    assert facts.aux_head == (name in ("googlenet", "inception_v3"))
