"""The torchvision source: each family builds, and a model built for nothing is described as a real one would be."""

from functools import partial

import pytest

from ckptaudit.arch import build_model as build_any_model
from ckptaudit.arch.sources import torchvision as source
from ckptaudit.arch.torch_module import BuiltModule, layer_graph
from ckptaudit.errors import ArchitectureError

#: The library itself is asked; the catalogue has tests of its own.
build_model = partial(build_any_model, fresh=True)

ONE_PER_FAMILY = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5"),
    *("mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0"),
    *("swin_t", "vgg11_bn", "vit_b_32", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"),
    *("fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "keypointrcnn_resnet50_fpn"),
    *("r3d_18", "mvit_v1_b", "s3d", "raft_small", "quantized_mobilenet_v2"),
]

#: Small ones, of which RegNet needs the second way, and both kinds of heads occur.
COMPARED = [
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "lraspp_mobilenet_v3_large",
    "raft_small",
]


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_one_of_each_family_builds(name):
    model = build_model(name)
    assert (model.arch, model.source, model.provenance) == (name, "torchvision", "live")
    assert list(model.graph.tensors) == list(model.module.state_dict())
    assert all(tensor.is_meta for tensor in model.module.parameters() if tensor.numel() > 10_000)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", COMPARED)
def test_model_built_for_nothing_is_described_like_a_real_one(name):
    import torch
    from torchvision import models

    model = build_model(name)
    call = model.call.replace("torchvision.models.", "models.")
    real = eval(call, {"models": models})
    state = real.state_dict()
    buffers = {key for key, _ in real.named_buffers()}
    assert [(t.name, t.shape, f"torch.{t.dtype}", t.buffer) for t in model.graph] == [
        (key, tuple(value.shape), str(value.dtype), key in buffers) for key, value in state.items()
    ]
    assert model.graph.parameters == sum(p.numel() for p in real.parameters())
    described = layer_graph(BuiltModule(real), name)
    assert {p: (m.type_name, m.attributes) for p, m in model.graph.modules.items()} == {
        p: (m.type_name, m.attributes) for p, m in described.modules.items()
    }
    assert torch.get_default_device().type == "cpu"


def test_call_and_version_are_recorded():
    import torchvision

    model = build_model("torchvision:deeplabv3_resnet50?num_classes=10")
    assert model.arch == "torchvision:deeplabv3_resnet50?num_classes=10"
    assert model.call == "torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=10)"
    assert model.arguments == {"num_classes": 10}
    assert model.library_version == torchvision.__version__
    assert model.graph.tensors["classifier.4.weight"].shape == (10, 256, 1, 1)
    # Without weights torchvision's own default is to have no auxiliary head.
    assert not [name for name in model.graph.tensors if name.startswith("aux_classifier")]
    assert model.graph.modules["classifier.0.convs.1.0"].attributes["dilation"] == (12, 12)


def test_siblings_are_the_family_closest_name_first_with_the_same_arguments():
    siblings = list(build_model("deeplabv3_resnet50", {"num_classes": 4}).siblings())
    assert [s.arch for s in siblings] == [
        *("deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large")
    ]
    assert {s.graph.tensors["classifier.4.weight"].shape[0] for s in siblings[:3]} == {4}


def test_siblings_are_built_on_demand_and_those_that_do_not_take_the_arguments_are_left_out(monkeypatch):
    built = []
    original = source.build
    monkeypatch.setattr(source, "build", lambda name, arguments: built.append(name) or original(name, arguments))
    monkeypatch.setattr(
        source, "relatives", lambda name, arguments: [(n, arguments) for n in ("lraspp_mobilenet_v3_large", "fcn_resnet50")]
    )
    siblings = build_model("deeplabv3_resnet50", {"aux_loss": True}, fresh=True).siblings()
    assert built == ["deeplabv3_resnet50"]
    assert [s.arch for s in siblings] == ["fcn_resnet50"]
    assert built == ["deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "fcn_resnet50"]


@pytest.mark.parametrize(
    ("name", "relatives"),
    [
        ("resnet18", {"resnet50", "resnext50_32x4d", "wide_resnet50_2"}),
        ("mobilenet_v2", {"mobilenet_v3_small", "mobilenet_v3_large"}),
        ("vgg16", {"vgg16_bn", "vgg11"}),
        ("r3d_18", {"mc3_18", "s3d"}),
    ],
)
def test_families(name, relatives):
    family = {other for other in source.names() if source.family(other) == source.family(name)}
    assert relatives < family
    assert "deeplabv3_resnet50" not in family


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("deplabv3_resnet50", r"^no architecture is named 'deplabv3_resnet50'; did you mean deeplabv3_resnet50, .*\?$"),
        ("torchvision:ResNet50", r"^torchvision has no architecture named 'ResNet50'; did you mean resnet50, "),
        ("zzzzzz", r"^no architecture is named 'zzzzzz'$"),
        # Two builders of which the first never looks at its **kwargs, and the second hands them on.
        (
            "deeplabv3_resnet50?num_clases=4",
            r"takes no argument 'num_clases'; did you mean num_classes\? \(it takes num_classes, aux_loss\)$",
        ),
        ("resnet18?foo=1", r"takes no argument 'foo' \(it takes num_classes, zero_init_residual, .*norm_layer\)$"),
        ("resnet18?weights=DEFAULT", "leave weights='DEFAULT' out"),
        ("resnet18?num_classes=ten", r"^torchvision:resnet18 raised TypeError: "),
    ],
)
def test_errors_are_one_line_that_helps(arch, message):
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_model(arch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("mobilenet_v3_large", "dilated"),
        ("efficientnet_b0", "dropout"),
        ("vit_b_16", "image_size"),
        ("fasterrcnn_resnet50_fpn", "min_size"),
    ],
)
def test_arguments_that_builders_hand_on_are_known(name, argument):
    from torchvision import models

    assert argument in set(source._accepted(models.get_model_builder(name)))


def test_weights_that_are_none_may_be_said():
    assert build_model("resnet18?weights=none&pretrained=false").call == "torchvision.models.resnet18(weights=None)"
