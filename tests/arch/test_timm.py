"""timm's architectures: named, built for nothing, and equal to what timm itself builds."""

from functools import partial

import pytest
import timm

from ckptaudit.arch import build_model as build_any_model
from ckptaudit.errors import ArchitectureError

#: The library itself is asked; the catalogue has tests of its own.
build_model = partial(build_any_model, fresh=True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"num_classes": 7}),
        ("efficientnet_b0", {}),
        ("vit_tiny_patch16_224", {"img_size": 64}),
        ("swin_tiny_patch4_window7_224", {}),
        ("regnety_002", {"in_chans": 1}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_spec_equals_a_real_build(name, arguments):
    model = build_model(f"timm:{name}", arguments)
    real = timm.create_model(name, pretrained=False, **arguments).state_dict()
    assert [(t.name, t.shape, f"torch.{t.dtype}") for t in model.graph] == [(n, tuple(v.shape), str(v.dtype)) for n, v in real.items()]
    assert all(tensor.is_meta for tensor in model.module.parameters())
    assert eval(model.call, {"timm": timm}).state_dict().keys() == real.keys()


def test_attributes_and_origins_are_told():
    graph = build_model("timm:efficientnet_b0").graph
    assert graph.modules["bn1"].attributes["eps"] == 1e-5
    assert graph.modules["blocks.1.0.conv_dw"].attributes["stride"] == (2, 2)
    assert graph.modules["blocks.1.0"].origin.path.endswith("_efficientnet_builder.py") or graph.modules["blocks"].origin is not None


def test_siblings_come_from_the_module_that_defines_the_architecture():
    assert next(build_model("timm:resnet50").siblings()).arch.startswith("timm:resnet5")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("timm:resnet51", r"^timm has no architecture named 'resnet51'; did you mean "),
        ("timm:resnet50?pretrained=true", r"^timm:resnet50: leave pretrained=True out"),
        ("timm:resnet50?num_clases=3", r"^timm:resnet50 raised TypeError: .*num_clases"),
    ],
)
def test_wrong_names_and_arguments_are_told(arch, message):
    with pytest.raises(ArchitectureError, match=message):
        build_model(arch)
