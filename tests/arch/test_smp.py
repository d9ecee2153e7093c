"""segmentation_models_pytorch by name: nothing is downloaded, and every tensor is that of a real build."""

import pytest
import segmentation_models_pytorch as smp

from ckptaudit.arch import build_model
from ckptaudit.arch.sources import smp as source
from ckptaudit.errors import ArchitectureError
from ckptaudit.pipeline import audit


@pytest.mark.parametrize(
    ("arch", "arguments"),
    [
        ("smp:DeepLabV3Plus?encoder_name=resnet18&classes=10", {}),
        ("smp:Unet", {"encoder_name": "efficientnet-b0", "encoder_weights": None, "in_channels": 1}),
        ("smp:FPN?encoder_name=tu-mobilenetv3_small_100", {}),
        ("smp:Linknet?encoder_name=mobilenet_v2", {"aux_params": {"classes": 3}}),
    ],
)
def test_names_and_shapes_are_those_of_a_real_build(arch, arguments):
    model = build_model(arch, arguments)
    real = eval(model.call, {"segmentation_models_pytorch": smp}).state_dict()
    assert [(t.name, t.shape) for t in model.graph] == [(name, tuple(value.shape)) for name, value in real.items()]
    assert all(parameter.is_meta for parameter in model.module.parameters() if parameter.numel() > 10_000)


def test_every_architecture_is_built_for_nothing():
    assert set(source.names()) >= {"Unet", "DeepLabV3Plus", "FPN", "PSPNet", "Segformer"}
    for name in set(source.names()) - {"DPT"}:  # its default encoder alone has 300 million parameters
        assert build_model(f"smp:{name}", {"encoder_name": "resnet18"}).graph.parameters > 10_000_000, name


def test_the_encoder_that_a_file_really_holds_is_named(tmp_path):
    import torch

    torch.save(smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=4).state_dict(), tmp_path / "a.pth")
    found = audit(tmp_path / "a.pth", "smp:DeepLabV3Plus", arguments={"encoder_name": "resnet34", "classes": 4})
    (finding,) = [f for f in found.findings if f.rule == "architecture-variant"]
    assert finding.retry == (("--arch", "smp:DeepLabV3Plus?encoder_name=resnet18"),)
    from ckptaudit.report._next import next_command

    assert next_command(found) == f"ckptaudit diff {tmp_path}/a.pth --arch 'smp:DeepLabV3Plus?encoder_name=resnet18' --arch-arg classes=4"


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("smp:Unett", r"^smp has no architecture named 'Unett'; did you mean Unet"),
        ("Unet", r"^no architecture is named 'Unet'"),
        ("smp:Unet?encoder_weights=imagenet", r"^smp:Unet: leave encoder_weights='imagenet' out"),
        ("smp:Unet?encoder_name=resnet19", r"^smp:Unet raised KeyError: .*resnet19"),
    ],
)
def test_failures_are_told_in_one_line(arch, message):
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_model(arch)
    assert "\n" not in str(caught.value)
