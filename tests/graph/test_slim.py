"""What an official DeepLab checkpoint is, from the names of its variables alone."""

import os
from pathlib import Path

import pytest

import ckptaudit
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.facts import facts_of
from ckptaudit.read import open_checkpoint


def xception(units):
    names = {"entry_flow/conv1_1/weights": (3, 3, 3, 32)}
    for flow, blocks in (("entry_flow", 3), ("exit_flow", 2)):
        names |= {
            f"{flow}/block{b}/unit_1/xception_module/separable_conv1_depthwise/depthwise_weights": (3, 3, 8, 1)
            for b in range(1, blocks + 1)
        }
    names |= {f"middle_flow/block1/unit_{u}/xception_module/separable_conv1_pointwise/weights": (1, 1, 8, 8) for u in range(1, units + 1)}
    return names


def mobilenet(stem, blocks=17):
    names = {"Conv/weights": (3, 3, 3, stem)}
    for number in range(blocks):
        block = f"expanded_conv_{number}" if number else "expanded_conv"
        names |= {f"{block}/depthwise/depthwise_weights": (3, 3, 8, 1), f"{block}/project/weights": (1, 1, 8, 8)}
    return names


def resnet(units):
    return {"conv1_1/weights": (3, 3, 3, 64)} | {
        f"block{block}/unit_{unit}/bottleneck_v1/conv1/weights": (1, 1, 8, 8)
        for block, count in enumerate(units, 1)
        for unit in range(1, count + 1)
    }


FLAT = {"aspp0/weights": (1, 1, 8, 256), "image_pooling/weights": (1, 1, 8, 256), "concat_projection/weights": (1, 1, 512, 256)}
ATROUS = FLAT | {
    f"aspp{n}_{part}": shape
    for n in (1, 2, 3)
    for part, shape in (("depthwise/depthwise_weights", (3, 3, 8, 1)), ("pointwise/weights", (1, 1, 8, 256)))
}
DECODER = {"decoder/feature_projection0/weights": (1, 1, 8, 48), "decoder/decoder_conv0_depthwise/depthwise_weights": (3, 3, 304, 1)}
LOGITS = {"logits/semantic/weights": (1, 1, 256, 19), "logits/semantic/biases": (19,)}

CASES = [
    ("MobilenetV2", mobilenet(32), FLAT, ("mobilenet_v2", "deeplabv3", 0)),
    ("MobilenetV2", mobilenet(16), FLAT, ("mobilenet_v2 of width 0.5", "deeplabv3", 0)),
    ("MobilenetV2", mobilenet(32, 12), {}, (None, None, None)),
    ("xception_65", xception(16), ATROUS | DECODER, ("xception65", "deeplabv3plus", 3)),
    ("xception_41", xception(8), ATROUS, ("xception41", "deeplabv3", 3)),
    ("xception_65", xception(8), {}, (None, None, None)),
    ("resnet_v1_101_beta", resnet((3, 4, 23, 3)), ATROUS | DECODER, ("resnet101", "deeplabv3plus", 3)),
    ("resnet_v1_50", resnet((3, 4, 6, 3)), {}, ("resnet50", None, None)),
]


@pytest.mark.parametrize(("scope", "inside", "head", "expected"), CASES)
@pytest.mark.parametrize("ending", ["", ":0"])
def test_backbone_pyramid_and_decoder(scope, inside, head, expected, ending):
    names = {f"{scope}/{name}": shape for name, shape in inside.items()} | head | LOGITS
    specs = [TensorSpec(name + ending, shape, "float32") for name, shape in names.items()]
    facts = facts_of(LayerGraph.from_tensors(specs, "tensorflow"))
    assert (facts.backbone, facts.decoder, facts.atrous_branches) == expected
    assert facts.num_classes == 19


@pytest.mark.skipif("CKPTAUDIT_REAL" not in os.environ, reason="CKPTAUDIT_REAL is not set")
def test_a_published_checkpoint_without_its_values():
    path = Path(os.environ["CKPTAUDIT_REAL"], "deeplabv3_mnv2_pascal.ckpt-30000.index")
    facts = facts_of(open_checkpoint(path).graph)
    assert (facts.backbone, facts.num_classes, facts.decoder, facts.atrous_branches) == ("mobilenet_v2", 21, "deeplabv3", 0)
    found = ckptaudit.audit(path, "deeplabv3_mobilenet_v3_large")
    assert found.verdict.summary == "The file holds a mobilenet_v2, the model a mobilenet_v3_large: not fit to evaluate."
    assert any(finding.rule == "remarks" and "is missing" in finding.message for finding in found.findings)
