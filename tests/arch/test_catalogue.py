"""The shipped catalogue: what it says of an architecture is what the library builds, and it says where its answer comes from."""

import json
import subprocess
import sys

import pytest

from ckptaudit.arch import build_model, catalogue, offer
from ckptaudit.arch.libraries import MissingLibraryError
from ckptaudit.arch.sources import built_in
from ckptaudit.errors import ArchitectureError

CATALOGUED = [
    ("torchvision:resnet18", {}),
    ("torchvision:resnet18", {"num_classes": 3}),
    ("torchvision:deeplabv3_mobilenet_v3_large", {"num_classes": 4, "aux_loss": True}),
    ("torchvision:fcn_resnet50", {"aux_loss": False, "weights_backbone": None}),
    ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", {"num_classes": 5}),
    ("torchvision:inception_v3", {"num_classes": 9}),
    ("torchvision:raft_small", {}),
    ("torchvision:swin_t", {"num_classes": 1}),
    ("timm:efficientnet_b0", {"num_classes": 2}),
    ("timm:vit_tiny_patch16_224", {"pretrained": False}),
    ("timm:swin_tiny_patch4_window7_224", {"num_classes": 6}),
    ("timm:deit_tiny_distilled_patch16_224", {"num_classes": 6}),
    ("timm:resnet26d", {"num_classes": 3, "in_chans": 4}),
    ("torchvision:ssdlite320_mobilenet_v3_large", {"num_classes": 5}),
    ("keras:ResNet50", {"classes": 10}),
    ("keras:NASNetLarge", {"weights": None, "classes": 2}),
    ("keras:ConvNeXtTiny", {}),
    ("keras:VGG16", {"include_top": False}),
    ("keras:EfficientNetB0", {"include_top": False, "weights": None}),
]


@pytest.mark.parametrize(("arch", "arguments"), CATALOGUED)
def test_an_entry_is_what_the_library_builds(arch, arguments):
    held, built = build_model(arch, arguments), build_model(arch, arguments, fresh=True)
    assert (held.provenance, built.provenance) == ("catalogue", "live")
    assert list(held.graph) == list(built.graph)
    assert (held.graph.tied, held.graph.framework, held.call) == (built.graph.tied, built.graph.framework, built.call)
    assert held.graph.feeds == built.graph.feeds
    assert held.preprocessing == built.preprocessing
    assert held.library_version == built.library_version.partition("+")[0]
    assert held.graph.modules.keys() == built.graph.modules.keys()
    for path, module in built.graph.modules.items():
        entry = held.graph.modules[path]
        assert (entry.type_name, entry.attributes) == (module.type_name, module.attributes)
        assert (entry.origin is None) == (module.origin is None)
        if entry.origin is not None:
            assert module.origin.path.endswith(entry.origin.path)
            assert module.origin.line == entry.origin.line


def test_every_name_of_the_libraries_is_held():
    for prefix in ("torchvision", "timm", "keras"):
        assert set(built_in()[prefix].names()) == set(catalogue.shipped().names(prefix))


def test_it_ships_small():
    assert len(catalogue.shipped().data) < 2_000_000


@pytest.mark.parametrize(
    "arguments", [{"classes": 7}, {"num_classes": 0}, {"num_classes": "7"}, {"num_classes": True}, {"replace_stride_with_dilation": None}]
)
def test_other_arguments_are_left_to_the_library(arguments):
    assert catalogue.shipped().model("torchvision", "resnet18", arguments) is None


def test_relatives_come_from_the_catalogue_too():
    relatives = build_model("torchvision:deeplabv3_resnet50", {"num_classes": 4}).siblings()
    first = next(relatives)
    assert (first.arch, first.provenance, first.arguments) == ("deeplabv3_resnet101", "catalogue", {"num_classes": 4})


def test_another_version_is_built_and_says_so(monkeypatch):
    monkeypatch.setattr(offer, "installed_version", lambda library: "0.1.2+cpu")
    model = build_model("torchvision:resnet18")
    assert model.provenance == "live"
    assert model.remarks == (
        f"built with torchvision 0.1.2, which is installed; the catalogue holds {catalogue.shipped().versions['torchvision']}",
    )


def test_without_the_library_the_catalogue_answers_alone(monkeypatch):
    def not_installed(extra):
        raise MissingLibraryError(f"torchvision is not installed; run: pip install 'ckptaudit[{extra}]'")

    monkeypatch.setattr(offer, "installed_version", lambda library: None)
    monkeypatch.setattr(built_in()["torchvision"], "import_library", lambda *_, extra: not_installed(extra))
    assert build_model("resnet18", {"num_classes": 3}).provenance == "catalogue"
    with pytest.raises(
        ArchitectureError,
        match=r"^the catalogue has torchvision:resnet18, but not with width_per_group=3; torchvision is not installed; run: pip install",
    ):
        build_model("torchvision:resnet18", {"width_per_group": 3})
    with pytest.raises(ArchitectureError, match=r"^no architecture is named 'resnet19'; did you mean resnet18"):
        build_model("resnet19")
    assert build_model("ResNet50", {"classes": 3}).provenance == "catalogue"


def test_what_keras_refuses_to_build_on_torch_is_held():
    model = build_model("keras:NASNetMobile", {"classes": 4})
    assert (model.provenance, model.graph.tensors["predictions/kernel"].shape) == ("catalogue", (1056, 4))


@pytest.mark.parametrize("settings", [{"image_data_format": "channels_first"}, {"floatx": "float16"}])
def test_keras_set_up_otherwise_is_asked_itself(monkeypatch, tmp_path, settings):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch", **settings}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    code = "from ckptaudit.arch import build_model; m = build_model('keras:MobileNet'); print(m.provenance, next(iter(m.graph)).dtype)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["live", settings.get("floatx", "float32")]


def test_the_answer_needs_no_framework():
    code = (
        "import sys, ckptaudit; ckptaudit.audit('sample_ckpts/resnet101_backbone.pth', 'deeplabv3_resnet50');"
        "print(sorted({'torch', 'torchvision', 'timm', 'networkx', 'h5py'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
