"""Plans by function: pairs of one network in two libraries, built live, restored through the plan, and run.

    python benchmarks/live_pairs.py [--only PATTERN] [--json FILE]

Every source gets random weights and random BatchNorm statistics and is saved; ``audit(path, target)`` proposes a plan, the target is
restored by it, and both are run on one input. The law: *every plan that calls itself complete and safe gives equal outputs.*
Settings that a file does not hold (eps, where a stage strides) are set on the target. Keras computes in single precision, hence the wider
allowance. Left out: smp's DenseNet encoder against timm's features, which end in a ReLU that the encoder lacks; with it outputs are equal.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import ckptaudit
from ckptaudit.arch.torch_arrays import to_tensor
from ckptaudit.prove.networks import tensors_of

#: Largest difference that counts as equal, in units of the output's standard deviation. Keras computes in single precision.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 2e-3}
Make = Callable[[], Any]


@dataclass(frozen=True)
class Pair:
    """Two makers of one network, and the side of the square image that both take."""

    name: str
    source: Make
    target: Make
    size: int = 224


@dataclass(frozen=True)
class Row:
    """What came of a pair."""

    name: str
    tensors: int
    sure: int
    complete: bool
    safe: bool
    difference: float | None
    allowed: float
    seconds: float
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether the law holds: a plan that is not both promises nothing. A pair that could not be examined shows nothing."""
        if self.error:
            return False
        return not (self.complete and self.safe) or (self.difference is not None and self.difference <= self.allowed)


def tv(name: str, **arguments: Any) -> Make:
    """A model of torchvision."""

    def make() -> Any:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **arguments)

    return make


def tm(name: str, **arguments: Any) -> Make:
    """A model of timm."""

    def make() -> Any:
        import timm

        return timm.create_model(name, pretrained=False, **arguments)

    return make


def hf(kind: str, **arguments: Any) -> Make:
    """A model of transformers, by the stem of its config."""

    def make() -> Any:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**arguments)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return make


def encoder(name: str) -> Make:
    """An encoder of segmentation_models_pytorch."""

    def make() -> Any:
        import segmentation_models_pytorch as smp

        return smp.encoders.get_encoder(name, weights=None)

    return make


def keras_model(name: str, **arguments: Any) -> Make:
    """A model of keras.applications, with logits."""

    def make() -> Any:
        import keras

        return getattr(keras.applications, name)(weights=None, classifier_activation=None, **arguments)

    return make


def with_eps(make: Make, eps: float) -> Make:
    """The same model with another eps in every BatchNorm and LayerNorm: the target's settings are not in the file."""

    def changed() -> Any:
        model = make()
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.LayerNorm):
                module.eps = eps
        return model

    return changed


def features(make: Make) -> Make:
    """A timm model that gives its last feature map, as an encoder does."""

    def changed() -> Any:
        model = make()
        model.forward = model.forward_features
        return model

    return changed


_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2")
_VGGS = ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19")
_DENSENETS = ("densenet121", "densenet169", "densenet201")


def pairs() -> Iterator[Pair]:
    """Every pair, small ones first within a family."""
    for name in _RESNETS:
        yield Pair(f"torchvision {name} → timm", tv(name), tm(name), 64)
        yield Pair(f"timm {name} → torchvision", tm(name), tv(name), 64)
    for name in _VGGS:
        yield Pair(f"torchvision {name} → timm", tv(name), tm(name))
    yield Pair("timm vgg16_bn → torchvision", tm("vgg16_bn"), tv("vgg16_bn"))
    for name in _DENSENETS:
        yield Pair(f"torchvision {name} → timm", tv(name), tm(name), 64)
    for size in ("tiny", "small"):
        yield Pair(f"torchvision convnext_{size} → timm", tv(f"convnext_{size}"), tm(f"convnext_{size}"), 64)
    yield Pair("timm convnext_tiny → torchvision", tm("convnext_tiny"), tv("convnext_tiny"), 64)
    for number in range(3):
        name = f"efficientnet_b{number}"
        yield Pair(f"torchvision {name} → timm", tv(name), tm(name), 64)
    yield Pair("timm efficientnet_b0 → torchvision", tm("efficientnet_b0"), tv("efficientnet_b0"), 64)
    yield Pair("torchvision mobilenet_v2 → timm", tv("mobilenet_v2"), tm("mobilenetv2_100"), 64)
    yield Pair("timm mobilenetv2_100 → torchvision", tm("mobilenetv2_100"), tv("mobilenet_v2"), 64)
    for name, other in (("regnet_y_400mf", "regnety_004"), ("regnet_y_800mf", "regnety_008"), ("regnet_x_400mf", "regnetx_004")):
        yield Pair(f"torchvision {name} → timm", tv(name), tm(other), 64)
        yield Pair(f"timm {other} → torchvision", tm(other), tv(name), 64)
    for name, other in (("vit_b_16", "vit_base_patch16_224"), ("vit_b_32", "vit_base_patch32_224")):
        yield Pair(f"torchvision {name} → timm", tv(name), tm(other))
        yield Pair(f"timm {other} → torchvision", tm(other), tv(name))
    for name, other in (("swin_t", "swin_tiny_patch4_window7_224"), ("swin_s", "swin_small_patch4_window7_224")):
        yield Pair(f"torchvision {name} → timm", tv(name), tm(other))
    layers = {18: ("basic", [2, 2, 2, 2], [64, 128, 256, 512]), 50: ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048])}
    for depth, (kind, depths, widths) in layers.items():
        config = {"layer_type": kind, "depths": depths, "hidden_sizes": widths, "num_labels": 1000}
        yield Pair(f"transformers ResNet-{depth} → timm", hf("ResNet", **config), tm(f"resnet{depth}"), 64)
        yield Pair(f"torchvision resnet{depth} → transformers", tv(f"resnet{depth}"), hf("ResNet", **config), 64)
    vit = hf("ViT", num_labels=1000)
    yield Pair("transformers ViT → timm", vit, with_eps(tm("vit_base_patch16_224"), 1e-12))
    yield Pair("timm vit_base_patch16_224 → transformers", tm("vit_base_patch16_224"), with_eps(vit, 1e-6))
    yield Pair("torchvision vit_b_16 → transformers", tv("vit_b_16"), with_eps(vit, 1e-6))
    convnext = hf("ConvNext", num_labels=1000)
    yield Pair("transformers ConvNeXt-T → timm", with_eps(convnext, 1e-6), tm("convnext_tiny"), 64)
    yield Pair("timm convnext_tiny → transformers", tm("convnext_tiny"), with_eps(convnext, 1e-6), 64)
    yield Pair("transformers Swin-T → timm", hf("Swin", num_labels=1000), tm("swin_tiny_patch4_window7_224"))
    yield Pair("torchvision swin_t → transformers", tv("swin_t"), hf("Swin", num_labels=1000))
    for name in ("resnet18", "resnet50", "resnext50_32x4d"):
        yield Pair(f"smp encoder {name} → timm", encoder(name), features(tm(name, num_classes=0)), 64)
    yield Pair("timm resnet34 → smp encoder", features(tm("resnet34")), encoder("resnet34"), 64)
    for name, target in (("VGG16", tm("vgg16")), ("VGG19", tm("vgg19"))):
        yield Pair(f"keras {name} → timm", keras_model(name), target)
    small = {"input_shape": (64, 64, 3)}
    for depth in (121, 169, 201):
        dense = keras_model(f"DenseNet{depth}", **small)
        yield Pair(f"keras DenseNet{depth} → torchvision", dense, with_eps(tv(f"densenet{depth}"), 1.001e-5), 64)
    yield Pair("keras ConvNeXtTiny → timm", keras_model("ConvNeXtTiny", include_preprocessing=False, **small), tm("convnext_tiny"), 64)
    yield Pair(
        "keras ConvNeXtTiny → torchvision", keras_model("ConvNeXtTiny", include_preprocessing=False, **small), tv("convnext_tiny"), 64
    )
    efficient = tm("tf_efficientnet_b0")
    yield Pair("keras EfficientNetB0 → timm", keras_model("EfficientNetB0", **small), efficient, 64)
    second = keras_model("EfficientNetV2B0", include_preprocessing=False, **small)
    yield Pair("keras EfficientNetV2B0 → timm", second, tm("tf_efficientnetv2_b0"), 64)
    wide = keras_model("InceptionResNetV2", input_shape=(139, 139, 3))
    yield Pair("keras InceptionResNetV2 → timm", wide, tm("inception_resnet_v2"), 139)
    yield Pair("keras ResNet50 → torchvision v1", keras_model("ResNet50", **small), _keras_resnet, 64)
    yield Pair("keras Xception → timm", keras_model("Xception", input_shape=(96, 96, 3)), with_eps(tm("legacy_xception"), 1e-3), 96)


def _keras_resnet() -> Any:
    """A ResNet-50 of torchvision, set as that of Keras: biases, strides in the first convolution of a stage, its eps."""
    import torchvision

    model = torchvision.models.resnet50(weights=None)
    for path, module in list(model.named_modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1.001e-5
        if not isinstance(module, torch.nn.Conv2d):
            continue
        above, _, name = path.rpartition(".")
        block = model.get_submodule(above)
        stride = module.stride
        if above.startswith("layer") and name in ("conv1", "conv2"):
            stride = block.stride if name == "conv1" else 1
        setattr(block, name, torch.nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, stride, module.padding))
    return model


def randomise(model: Any) -> None:
    """Random weights of a size that keeps signals alive, and random statistics: nothing is left at a value that hides a mistake."""
    if isinstance(model, torch.nn.Module) and not hasattr(model, "compute_output_shape"):
        torch.manual_seed(0)
        with torch.no_grad():
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                if name.endswith("running_mean"):
                    tensor.normal_(0, 0.2)
                elif name.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
                elif tensor.dim() == 1 and tensor.is_floating_point():
                    tensor.add_(torch.randn_like(tensor) * 0.1)
                elif tensor.is_floating_point() and ("bias_table" in name or "pos" in name):
                    tensor.normal_(0, 0.02)
        return
    import numpy as np

    chance = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(chance.uniform(0.5, 2, weight.shape))
        elif "seed" not in weight.path and len(weight.shape) == 1:
            weight.assign(np.asarray(weight) * 1.0 + chance.normal(0, 0.1, weight.shape))


def is_keras(model: Any) -> bool:
    """Whether it is a Keras model, whatever its backend."""
    return type(model).__module__.startswith("keras")


def run_source(model: Any, image: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of the source, channels first."""
    if is_keras(model):
        import keras

        output = model(keras.ops.convert_to_tensor(image.permute(0, 2, 3, 1).float().numpy()), training=False)
        return [torch.from_numpy(keras.ops.convert_to_numpy(output)).double()]
    with torch.no_grad():
        return tensors_of(model(image))


def examine(pair: Pair, folder: Path) -> Row:
    """Save the source, propose, restore, run both."""
    source = pair.source()
    randomise(source)
    if is_keras(source):
        path = folder / "source.weights.h5"
        source.save_weights(path)
        tolerance_type = torch.float32
    else:
        source.eval()
        path = folder / "source.pth"
        torch.save(source.state_dict(), path)
        source.double()
        tolerance_type = torch.float64
    target = pair.target().eval()
    began = time.perf_counter()
    plan = ckptaudit.audit(path, target).plan
    seconds = time.perf_counter() - began
    sure = sum(step.sure for step in plan.steps)
    values = {name: to_tensor(value) for name, value in plan.apply(path, allow_ambiguous=True, initial=target.state_dict()).items()}
    target.load_state_dict(values, strict=False)
    target.to(tolerance_type)
    image = torch.randn(1, 3, pair.size, pair.size, dtype=tolerance_type)
    difference = None
    theirs = run_source(source, image)
    with torch.no_grad():
        for output in tensors_of(target(image))[-1:]:
            others = [other for other in theirs if other.shape == output.shape]
            gaps = [float((output - other).abs().max() / output.std()) for other in others]
            difference = min(gaps, default=None)
    path.unlink()
    allowed = TOLERANCES[tolerance_type]
    return Row(pair.name, len(plan.steps), sure, plan.complete, plan.safe, difference, allowed, seconds)


def main() -> None:
    """Examine every pair and print the table; exit 1 where the law does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="pairs whose name matches this pattern")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    print("| pair | tensors | sure | complete | safe | outputs differ by | audit s | holds |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs():
            if not fnmatch.fnmatchcase(pair.name, options.only):
                continue
            try:
                row = examine(pair, Path(folder))
            except Exception as error:  # one pair that cannot be built must not hide the others
                row = Row(pair.name, 0, 0, False, False, None, 0.0, 0.0, f"{type(error).__name__}: {error}"[:160])
            rows.append(row)
            gap = "–" if row.difference is None else f"{row.difference:.1e}"
            print(
                f"| {row.name} | {row.tensors} | {row.sure} | {row.complete} | {row.safe} | {gap} | {row.seconds:.2f} | "
                f"{'yes' if row.holds else '**NO** ' + row.error} |",
                flush=True,
            )
    promised = [row for row in rows if row.complete and row.safe]
    print(f"\n{len(rows)} pairs, {len(promised)} plans complete and safe, {sum(row.holds for row in promised)} of these give equal outputs")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
