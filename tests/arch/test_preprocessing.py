"""What a spec says of preprocessing is what the library's own transforms do to an image, and survives being written down."""

import json

import keras
import numpy
import pytest
import timm
import torchvision
from PIL import Image

from ckptaudit.arch import build_model, load_spec, save_spec
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.arch.sources import built_in
from ckptaudit.errors import ArchitectureError

SIDES = (300, 420)  # width, height
COLOUR = (200, 30, 90)


def by_torchvision(name):
    return torchvision.models.get_model_weights(name).DEFAULT.transforms()


def by_timm(name):
    config = timm.get_pretrained_cfg(name).to_dict()
    return timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))


def pixels_of(told):
    colour = COLOUR if told.channels == "RGB" else COLOUR[::-1]
    return [(value * told.scale - mean) / std for value, mean, std in zip(colour, told.mean, told.std, strict=True)]


@pytest.mark.parametrize(
    ("arch", "transforms", "resize", "interpolation"),
    [
        ("torchvision:resnet50", by_torchvision, (232,), "bilinear"),
        ("torchvision:vit_b_16", by_torchvision, (256,), "bilinear"),
        ("torchvision:deeplabv3_resnet50", by_torchvision, (520,), "bilinear"),
        ("torchvision:fasterrcnn_resnet50_fpn", by_torchvision, None, None),
        ("timm:resnet18", by_timm, (235,), "bicubic"),
        ("timm:vit_base_patch16_clip_224", by_timm, (235,), "bicubic"),
        ("timm:mixer_b16_224", by_timm, (256,), "bicubic"),
        ("timm:coat_lite_medium_384", by_timm, (384, 384), "bicubic"),
    ],
)
def test_a_statement_is_what_the_transforms_do(arch, transforms, resize, interpolation):
    source, _, name = arch.partition(":")
    told = built_in()[source].preprocessing(name)
    assert (told.resize, told.interpolation, told.layout) == (resize, interpolation, "NCHW")
    result = transforms(name)(Image.new("RGB", SIDES, COLOUR))
    if told.size is not None:
        assert tuple(result.shape[1:]) == told.size
    elif told.resize is not None:
        assert min(result.shape[1:]) == told.resize[0]
    middle = result[:, result.shape[1] // 2, result.shape[2] // 2]
    assert middle.tolist() == pytest.approx(pixels_of(told), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "module", "size", "channels"),
    [
        ("ResNet50", "resnet", 224, "BGR"),
        ("Xception", "xception", 299, "RGB"),
        ("DenseNet121", "densenet", 224, "RGB"),
        ("EfficientNetB0", "efficientnet", 224, "RGB"),
    ],
)
def test_a_statement_is_what_preprocess_input_does(name, module, size, channels):
    told = build_model(f"keras:{name}", fresh=True).preprocessing
    assert (told.source, told.size, told.channels) == (f"keras.applications.{module}.preprocess_input", (size, size), channels)
    result = getattr(keras.applications, module).preprocess_input(numpy.full((1, 2, 2, 3), COLOUR, "float32"))
    assert result[0, 0, 0].tolist() == pytest.approx(pixels_of(told), abs=1e-3)


def test_a_library_that_says_nothing_is_not_spoken_for():
    assert build_model("timm:resnet18", {"num_classes": 3}).preprocessing is not None
    assert build_model("smp:Unet", fresh=True).preprocessing is None


def test_it_is_part_of_a_saved_spec(tmp_path):
    path = tmp_path / "spec.json"
    save_spec(build_model("torchvision:r3d_18"), path)
    told = load_spec(path).preprocessing
    assert told == built_in()["torchvision"].preprocessing("r3d_18")
    assert (told.layout, told.size, told.resize) == ("NCTHW", (112, 112), (128, 171))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": 1}, "preprocessing.source is 1"),
        ({"size": [224]}, r"preprocessing.size is \[224\]"),
        ({"channels": "CMYK"}, "preprocessing.channels is 'CMYK'"),
        ({"mean": ["a"]}, r"preprocessing.mean is \['a'\]"),
        ({"scale": "1/255"}, "preprocessing.scale is '1/255'"),
        ({"std": True}, "preprocessing.std is True"),
    ],
)
def test_it_is_read_strictly(tmp_path, change, message):
    path = tmp_path / "spec.json"
    save_spec(build_model("torchvision:resnet18"), path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"preprocessing": document["preprocessing"] | change}))
    with pytest.raises(ArchitectureError, match=message):
        load_spec(path)


def test_what_is_not_said_is_none():
    assert Preprocessing.from_json(Preprocessing("somebody").to_json()) == Preprocessing("somebody")
