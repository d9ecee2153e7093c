"""Names of TF-slim, as the official DeepLab checkpoints have them: the backbone's scope says what it is, the pyramid's layers are numbered.

From ``deeplab/core/feature_extractor.py`` and ``deeplab/model.py`` of tensorflow/models: ``MobilenetV2/expanded_conv_3/depthwise/…``,
``xception_65/middle_flow/block1/unit_8/…``, ``resnet_v1_101/block3/unit_23/…``; ``aspp0``, ``aspp1_depthwise``, ``image_pooling``,
``concat_projection``, ``decoder/feature_projection0``, ``logits/semantic``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ckptaudit.lazily import compiled_when_used

_SCOPE = compiled_when_used(r"(?:^|.*/)(MobilenetV[123]|xception_\d+|resnet_v[12]_\d+(?:_beta)?)/")
_INVERTED = compiled_when_used(r"expanded_conv(_\d+)?/(?:depthwise|project)/")
_SQUEEZED = compiled_when_used(r"expanded_conv(_\d+)?/squeeze_excite/")
_UNIT = compiled_when_used(r"(entry_flow/block\d+|middle_flow/block\d+|exit_flow/block\d+|block\d+)/unit_(\d+)/")
_BRANCH = compiled_when_used(r"(?:^|/)aspp(\d+)(_depthwise|_pointwise)?/(?:depthwise_)?weights")
_POOLED = compiled_when_used(r"(?:^|/)(image_pooling|concat_projection)/")
_OF_PYRAMID = compiled_when_used(r"aspp|image_pooling|concat_projection|feature_projection")  # most names have none of these
_LOW_LEVEL = compiled_when_used(r"(?:^|/)decoder/feature_projection\d+/")
#: Depths of units: Chen et al. 2018 (arXiv:1802.02611, figure 4) and the variants of its code; He et al. 2016 (arXiv:1603.05027).
_MIDDLE_UNITS = {41: 8, 65: 16, 71: 16}
_RESNET_UNITS = {50: 16, 101: 33, 152: 50, 200: 66}


def slim_scope(names: Iterable[str]) -> str | None:
    """The scope of the backbone, as its first variable spells it; None where there is none of TF-slim's."""
    return next((match[1] for name in names if (match := _SCOPE.match(name))), None)


def slim_backbone(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What the backbone is called elsewhere; only where its blocks are as many as the name says."""
    scope = slim_scope(shapes)
    if scope is None:
        return None
    inside = {name.partition(f"{scope}/")[2].partition(":")[0]: shape for name, shape in shapes.items() if f"{scope}/" in name}
    if scope == "MobilenetV2":
        blocks = {match[1] for name in inside if (match := _INVERTED.match(name))}
        kernel = inside.get("Conv/weights", ())
        stem = kernel[0] if kernel[2:] == (3, 3) else kernel[-1] if kernel else 0  # an ONNX file has the outputs in front
        return None if len(blocks) != 17 or not stem else "mobilenet_v2" if stem == 32 else f"mobilenet_v2 of width {stem / 32:g}"
    if scope == "MobilenetV3":
        blocks = {match[1] for name in inside if (match := _INVERTED.match(name))}
        squeezed = {match[1] for name in inside if (match := _SQUEEZED.match(name))}
        # Howard et al. 2019 (arXiv:1905.02244), tables 1 and 2. The first block of the large network expands nothing.
        size = {(15, 8): "large", (11, 9): "small"}.get((len(blocks), len(squeezed)))
        return f"mobilenet_v3_{size}" if size else None
    units = {match[0] for name in inside if (match := _UNIT.match(name))}
    number = int(re.findall(r"\d+", scope)[-1])
    if scope.startswith("xception"):
        middle = sum(unit.startswith("middle_flow") for unit in units)
        return f"xception{number}" if _MIDDLE_UNITS.get(number) == middle else None
    if scope.startswith("resnet") and _RESNET_UNITS.get(number) == len(units):
        return f"resnet{number}" + ("" if scope.startswith("resnet_v1") else "v2")
    return None


def slim_pyramid(names: Iterable[str]) -> tuple[int, bool] | None:
    """Atrous branches of the pyramid, and whether a decoder joins low-level features; None where there is no pyramid of TF-slim's.

    ``aspp0`` is the 1×1 branch, and all that there is beside the pooled one where nothing is dilated (MobileNetV2 at full stride).
    """
    branches: set[str] = set()
    pooled = low_level = False
    for name in filter(_OF_PYRAMID.search, names):
        if match := _BRANCH.search(name):
            branches.add(match[1])
        pooled |= bool(_POOLED.search(name))
        low_level |= bool(_LOW_LEVEL.search(name))
    return (len(branches - {"0"}), low_level) if "0" in branches and pooled else None
