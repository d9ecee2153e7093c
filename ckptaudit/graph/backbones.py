"""Name the backbone of a network from the structure of its layers, wherever in a larger network it lies.

Each function looks for one family's skeleton (how many blocks per stage, what a block consists of, how wide it is) and names
the published variant that has it. An unpublished combination is described instead of guessed; other families give ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from ckptaudit.graph.layers import LayerGraph

Shapes = Mapping[str, tuple[int, ...]]

#: Residual networks of He et al. 2015 (arXiv:1512.03385), table 1: blocks per stage → depth. ResNeXt (arXiv:1611.05431)
#: and wide residual networks (arXiv:1605.07146) share the bottleneck's depths.
_BASIC: Mapping[tuple[int, ...], int] = MappingProxyType({(2, 2, 2, 2): 18, (3, 4, 6, 3): 34})
_BOTTLENECK: Mapping[tuple[int, ...], int] = MappingProxyType({(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152})
#: Simonyan & Zisserman 2014 (arXiv:1409.1556), table 1: convolutions → name.
_VGG = MappingProxyType({8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"})
#: Huang et al. 2016 (arXiv:1608.06993), table 1.
_DENSENET: Mapping[tuple[int, ...], int] = MappingProxyType(
    {(6, 12, 24, 16): 121, (6, 12, 36, 24): 161, (6, 12, 32, 32): 169, (6, 12, 48, 32): 201}
)
#: Dosovitskiy et al. 2020 (arXiv:2010.11929), table 1: (layers, width).
_VIT = MappingProxyType({(12, 192): "ti", (12, 384): "s", (12, 768): "b", (24, 1024): "l", (32, 1280): "h"})


def backbone_of(graph: LayerGraph) -> str | None:
    """The published name of the backbone in ``graph`` (``resnet101``), a description of it, or ``None``."""
    shapes: Shapes = {name: spec.shape for name, spec in graph.tensors.items()}
    return next((name for family in _FAMILIES if (name := family(shapes))), None)


def _resnet(shapes: Shapes) -> str | None:
    stages: dict[str, dict[int, set[int]]] = {}
    for name in shapes:
        if match := _RESNET_BLOCK.match(name):
            stages.setdefault(match["scope"], {}).setdefault(int(match["stage"]), set()).add(int(match["block"]))
    for scope, blocks in stages.items():
        depths = tuple(len(blocks[stage]) for stage in sorted(blocks))
        if sorted(blocks) not in ([1, 2, 3], [1, 2, 3, 4]):
            continue
        first = f"{scope}layer1.0."
        conv1, conv2 = (
            next((s for n, s in shapes.items() if n.startswith(first) and n.endswith(end)), ()) for end in ("conv1.weight", "conv2.weight")
        )
        if len(conv1) != 4 or len(conv2) != 4:
            continue
        bottleneck = conv1[2:] == (1, 1)
        return _resnet_name(depths, bottleneck, conv1[0], groups=conv1[0] // max(1, conv2[1]))
    return None


_RESNET_BLOCK = re.compile(r"(?P<scope>(?:.*\.)?)layer(?P<stage>[1-4])\.(?:module\.)?(?P<block>\d+)\.(?:module\.)?conv1\.weight$")


def _resnet_name(depths: tuple[int, ...], bottleneck: bool, width: int, groups: int) -> str:
    if not bottleneck and len(depths) == 3 and len(set(depths)) == 1 and width == 16:
        return f"resnet{6 * depths[0] + 2} (CIFAR)"  # He et al. 2015, section 4.2: 6n + 2 layers
    depth = (_BOTTLENECK if bottleneck else _BASIC).get(depths)
    if depth is None or (not bottleneck and (width, groups) != (64, 1)):
        return f"a ResNet of {'bottleneck' if bottleneck else 'basic'} blocks {'-'.join(map(str, depths))}, width {width}"
    if groups > 1:
        return f"resnext{depth}_{groups}x{width // groups}d"
    if bottleneck and width != 64:
        return f"wide_resnet{depth}_{width // 64}"
    return f"resnet{depth}"


def _vgg(shapes: Shapes) -> str | None:
    for scope in _scopes_of(shapes, "features"):
        inside = {name[len(scope) :]: shape for name, shape in shapes.items() if name.startswith(scope)}
        convolutions = [shape for name, shape in inside.items() if re.fullmatch(r"\d+\.weight", name) and len(shape) == 4]
        if convolutions and all(shape[2:] == (3, 3) for shape in convolutions) and convolutions[-1][0] == 512:
            name = _VGG.get(len(convolutions))
            return f"{name}_bn" if name and any(n.endswith("running_mean") for n in inside) else name
    return None


def _densenet(shapes: Shapes) -> str | None:
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        if match := re.search(r"denseblock(\d)\.denselayer(\d+)\.", name):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    depths = tuple(len(blocks[stage]) for stage in sorted(blocks))
    if not depths:
        return None
    return f"densenet{_DENSENET[depths]}" if depths in _DENSENET else f"a DenseNet of blocks {'-'.join(map(str, depths))}"


def _mobilenet_v2(shapes: Shapes) -> str | None:
    """Sandler et al. 2018 (arXiv:1801.04381), table 2: 17 inverted residuals, 32 channels after the stem."""
    for scope in [*_scopes_of(shapes, "features"), *_scopes_of(shapes, "backbone")]:
        inside = {name[len(scope) :]: shape for name, shape in shapes.items() if name.startswith(scope)}
        depthwise = {
            m[1] for n, s in inside.items() if (m := re.match(r"(\d+)\.conv\.", n)) and len(s) == 4 and s[1] == 1 and s[2:] == (3, 3)
        }
        if len(depthwise) == 17:
            return "mobilenet_v2"
    return None


def _mobilenet_v3(shapes: Shapes) -> str | None:
    """Howard et al. 2019 (arXiv:1905.02244), tables 1 and 2: 15 or 11 blocks, some with squeeze and excitation."""
    for scope in [*_scopes_of(shapes, "features"), *_scopes_of(shapes, "backbone")]:
        inside = [name[len(scope) :] for name in shapes if name.startswith(scope)]
        blocks = {m[1] for name in inside if (m := re.match(r"(\d+)\.block\.\d+\.0\.weight$", name))}
        squeezed = {m[1] for name in inside if (m := re.match(r"(\d+)\.block\.\d+\.fc1\.weight$", name))}
        if (variant := {(15, 8): "large", (11, 9): "small"}.get((len(blocks), len(squeezed)))) is not None:
            return f"mobilenet_v3_{variant}"
    return None


def _vit(shapes: Shapes) -> str | None:
    layers: set[str] = set()
    width = patch = 0
    for name, shape in shapes.items():
        if (match := re.search(r"(?:^|\.)(?:encoder_layer_|blocks\.|encoder\.layer\.|resblocks\.)(\d+)\.", name)) and len(shape) == 2:
            layers.add(match[1])
        if len(shape) == 4 and shape[2] == shape[3] and shape[2] >= 8 and re.search(r"conv_proj|patch_embed|patch_embeddings|conv1", name):
            width, patch = shape[0], shape[2]
    size = _VIT.get((len(layers), width))
    return f"vit_{size}_{patch}" if size else None


_FAMILIES: tuple[Callable[[Shapes], str | None], ...] = (_resnet, _densenet, _vgg, _mobilenet_v2, _mobilenet_v3, _vit)


def _scopes_of(shapes: Shapes, word: str) -> Iterator[str]:
    """Every prefix that ends in the segment ``word``, with its closing dot, each once."""
    seen: set[str] = set()
    for name in shapes:
        for match in re.finditer(rf"(?:^|\.){word}\.", name):
            if (prefix := name[: match.end()]) not in seen:
                seen.add(prefix)
                yield prefix
