"""Name the backbone of a network from the structure of its layers, wherever in a larger network it lies.

Each function looks for one family's skeleton (how many blocks per stage, what a block consists of, how wide it is) and names
the published variant that has it. An unpublished combination is described instead of guessed; other families give ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from ckptaudit.graph.layers import LayerGraph
from ckptaudit.graph.slim import slim_backbone
from ckptaudit.lazily import compiled_when_used

Shapes = Mapping[str, tuple[int, ...]]

#: Prefixes looked into by each family: a network has a few backbones, a file made to be slow has thousands of scopes.
_MAX_SCOPES = 64

#: Residual networks of He et al. 2015 (arXiv:1512.03385), table 1: blocks per stage → depth. ResNeXt (arXiv:1611.05431)
#: and wide residual networks (arXiv:1605.07146) share the bottleneck's depths.
_BASIC: Mapping[tuple[int, ...], int] = MappingProxyType({(2, 2, 2, 2): 18, (3, 4, 6, 3): 34})
_BOTTLENECK: Mapping[tuple[int, ...], int] = MappingProxyType({(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152})
#: Groups and their width in the ResNeXt networks that were published with weights.
_RESNEXT = frozenset({(32, 4), (32, 8), (64, 4)})
#: Simonyan & Zisserman 2014 (arXiv:1409.1556), table 1: convolutions of 64, 128, 256 and 512 channels → name.
_VGG: Mapping[tuple[int, ...], str] = MappingProxyType(
    {(1, 1, 2, 4): "vgg11", (2, 2, 2, 4): "vgg13", (2, 2, 3, 6): "vgg16", (2, 2, 4, 8): "vgg19"}
)
#: Huang et al. 2016 (arXiv:1608.06993), table 1.
_DENSENET: Mapping[tuple[int, ...], int] = MappingProxyType(
    {(6, 12, 24, 16): 121, (6, 12, 36, 24): 161, (6, 12, 32, 32): 169, (6, 12, 48, 32): 201}
)
#: Dosovitskiy et al. 2020 (arXiv:2010.11929), table 1: (layers, width).
_VIT = MappingProxyType({(12, 192): "ti", (12, 384): "s", (12, 768): "b", (24, 1024): "l", (32, 1280): "h"})

#: Tan & Le 2019 (arXiv:1905.11946): blocks per stage, width of the last stage → name. 2021 (arXiv:2104.00298): version 2.
_EFFICIENTNET: Mapping[tuple[tuple[int, ...], int], str] = MappingProxyType(
    {
        ((1, 2, 2, 3, 3, 4, 1), 320): "b0",
        ((2, 3, 3, 4, 4, 5, 2), 320): "b1",
        ((2, 3, 3, 4, 4, 5, 2), 352): "b2",
        ((2, 3, 3, 5, 5, 6, 2), 384): "b3",
        ((2, 4, 4, 6, 6, 8, 2), 448): "b4",
        ((3, 5, 5, 7, 7, 9, 3), 512): "b5",
        ((3, 6, 6, 8, 8, 11, 3), 576): "b6",
        ((4, 7, 7, 10, 10, 13, 4), 640): "b7",
        ((2, 4, 4, 6, 9, 15), 256): "v2_s",
        ((3, 5, 5, 7, 14, 18, 5), 512): "v2_m",
        ((4, 7, 7, 10, 19, 25, 7), 640): "v2_l",
    }
)
#: Liu et al. 2022 (arXiv:2201.03545), section 3: blocks per stage, width of the first → name.
_CONVNEXT: Mapping[tuple[tuple[int, ...], int], str] = MappingProxyType(
    {
        ((3, 3, 9, 3), 96): "tiny",
        ((3, 3, 27, 3), 96): "small",
        ((3, 3, 27, 3), 128): "base",
        ((3, 3, 27, 3), 192): "large",
        ((3, 3, 27, 3), 256): "xlarge",
    }
)
#: Liu et al. 2021 (arXiv:2103.14030), section 3.3: blocks per stage, width of the first → name.
_SWIN: Mapping[tuple[tuple[int, ...], int], str] = MappingProxyType(
    {((2, 2, 6, 2), 96): "t", ((2, 2, 18, 2), 96): "s", ((2, 2, 18, 2), 128): "b", ((2, 2, 18, 2), 192): "l"}
)
#: Ma et al. 2018 (arXiv:1807.11164), table 5: width of half a block of the first stage → name.
_SHUFFLENET = MappingProxyType({24: "x0_5", 58: "x1_0", 88: "x1_5", 122: "x2_0"})


def backbone_of(graph: LayerGraph) -> str | None:
    """The published name of the backbone in ``graph`` (``resnet101``), a description of it, or ``None``."""
    shapes: Shapes = {name: spec.shape for name, spec in graph.tensors.items()}
    return next((name for family in _FAMILIES if (name := family(shapes))), None)


def _resnet(shapes: Shapes) -> str | None:
    stages: dict[str, dict[int, set[int]]] = {}
    parts: dict[str, set[str]] = {}
    for name in shapes:
        if _RESNET_STAGE.search(name) and (match := _RESNET_BLOCK.match(name)):
            if match["scope"] not in parts and len(parts) == _MAX_SCOPES:
                continue
            parts.setdefault(match["scope"], set()).add(match["part"])
            if match["part"] == "conv1":
                stages.setdefault(match["scope"], {}).setdefault(int(match["stage"]), set()).add(int(match["block"]))
    insides = _inside(shapes, stages)
    for scope, blocks in stages.items():
        depths = tuple(len(blocks[stage]) for stage in sorted(blocks))
        if sorted(blocks) not in ([1, 2, 3], [1, 2, 3, 4]):
            continue
        conv1, conv2 = (_of_first_block(insides[scope], part) for part in ("conv1", "conv2"))
        if len(conv1) != 4 or len(conv2) != 4:
            continue
        name = _resnet_name(depths, conv1[2:] == (1, 1), conv1[0], groups=conv1[0] // max(1, conv2[1]))
        # Blocks with more inside (SE-ResNet, ResNeSt, Res2Net …) are networks of their own.
        extra = sorted(part for part in parts[scope] if not _RESNET_PART.fullmatch(part))
        return f"{name} with {', '.join(f'`{part}`' for part in extra)}" if extra else name
    return None


_RESNET_BLOCK = compiled_when_used(r"(?P<scope>(?:.*\.)?)layer(?P<stage>[1-4])\.(?:module\.)?(?P<block>\d+)\.(?:module\.)?(?P<part>\w+)\.")
_RESNET_STAGE = compiled_when_used(r"layer[1-4]\.")  # what the expression above looks for from the end of every name
_RESNET_PART = compiled_when_used(r"(conv|bn|norm|gn|n)\d|downsample|shortcut|module|_orig_mod")


def _of_first_block(inside: Shapes, part: str) -> tuple[int, ...]:
    return next((s for n, s in inside.items() if n.startswith("layer1.") and n.endswith(f".{part}.weight")), ())


def _resnet_name(depths: tuple[int, ...], bottleneck: bool, width: int, groups: int) -> str:
    if not bottleneck and len(depths) == 3 and len(set(depths)) == 1 and width == 16:
        return f"resnet{6 * depths[0] + 2} (CIFAR)"  # He et al. 2015, section 4.2: 6n + 2 layers
    depth = (_BOTTLENECK if bottleneck else _BASIC).get(depths)
    if depth is not None and (width, groups) == (64, 1):
        return f"resnet{depth}"
    if depth is not None and bottleneck and (width, groups) == (128, 1):
        return f"wide_resnet{depth}_2"
    if depth is not None and bottleneck and width % groups == 0 and (groups, width // groups) in _RESNEXT:
        return f"resnext{depth}_{groups}x{width // groups}d"
    kind = "bottleneck" if bottleneck else "basic"
    return f"a ResNet of {kind} blocks {'-'.join(map(str, depths))}, width {width}" + (f" in {groups} groups" if groups > 1 else "")


def _vgg(shapes: Shapes) -> str | None:
    for inside in _inside(shapes, _scopes_of(shapes, "features")).values():
        convolutions = [shape for name, shape in inside.items() if re.fullmatch(r"\d+\.weight", name) and len(shape) == 4]
        if convolutions and all(shape[2:] == (3, 3) for shape in convolutions) and max(shape[0] for shape in convolutions) == 512:
            widths = [shape[0] for shape in convolutions]
            name = _VGG.get(tuple(widths.count(width) for width in (64, 128, 256, 512)))
            return f"{name}_bn" if name and any(n.endswith("running_mean") for n in inside) else name
    return None


def _densenet(shapes: Shapes) -> str | None:
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        if "denselayer" in name and (match := re.search(r"denseblock(\d)\.denselayer(\d+)\.", name)):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    depths = tuple(len(blocks[stage]) for stage in sorted(blocks))
    if not depths:
        return None
    return f"densenet{_DENSENET[depths]}" if depths in _DENSENET else f"a DenseNet of blocks {'-'.join(map(str, depths))}"


def _mobilenet_v2(shapes: Shapes) -> str | None:
    """Sandler et al. 2018 (arXiv:1801.04381), table 2: 17 inverted residuals, 32 channels after the stem."""
    for inside in _inside(shapes, [*_scopes_of(shapes, "features"), *_scopes_of(shapes, "backbone")]).values():
        depthwise = {
            m[1] for n, s in inside.items() if (m := re.match(r"(\d+)\.conv\.", n)) and len(s) == 4 and s[1] == 1 and s[2:] == (3, 3)
        }
        if len(depthwise) == 17:
            return "mobilenet_v2"
    return None


def _mobilenet_v3(shapes: Shapes) -> str | None:
    """Howard et al. 2019 (arXiv:1905.02244), tables 1 and 2: 15 or 11 blocks, some with squeeze and excitation."""
    for inside in _inside(shapes, [*_scopes_of(shapes, "features"), *_scopes_of(shapes, "backbone")]).values():
        blocks = {m[1] for name in inside if (m := re.match(r"(\d+)\.block\.\d+\.0\.weight$", name))}
        squeezed = {m[1] for name in inside if (m := re.match(r"(\d+)\.block\.\d+\.fc1\.weight$", name))}
        if (variant := {(15, 8): "large", (11, 9): "small"}.get((len(blocks), len(squeezed)))) is not None:
            return f"mobilenet_v3_{variant}"
    return None


def _vit(shapes: Shapes) -> str | None:
    layers: set[str] = set()
    width = patch = 0
    for name, shape in shapes.items():
        if len(shape) == 2 and ("encoder" in name or "blocks." in name) and (match := _VIT_LAYER.search(name)):
            layers.add(match[1])
        if len(shape) == 4 and shape[2] == shape[3] and shape[2] >= 8 and re.search(r"conv_proj|patch_embed|patch_embeddings|conv1", name):
            width, patch = shape[0], shape[2]
    size = _VIT.get((len(layers), width))
    return f"vit_{size}_{patch}" if size else None


_VIT_LAYER = compiled_when_used(r"(?:^|\.)(?:encoder_layer_|blocks\.|encoder\.layer\.|resblocks\.)(\d+)\.")


def _efficientnet(shapes: Shapes) -> str | None:
    for inside, stages in _staged(shapes, r"features\.(\d)\.(\d+)\.block\.", r"blocks\.(\d)\.(\d+)\."):
        in_last = re.compile(rf"(features|blocks)\.{max(stages)}\.")
        kernels = [shape for name, shape in inside.items() if in_last.search(name) and len(shape) == 4]
        size = _EFFICIENTNET.get((_depths(stages), kernels[-1][0])) if kernels else None
        # The lite variants have the same blocks without squeeze and excitation.
        if size and any(re.search(r"\.(se|fc1)\.", name) for name in inside):
            return f"efficientnet_{size}"
    return None


def _convnext(shapes: Shapes) -> str | None:
    patterns = r"features\.(\d)\.(\d+)\.block\.0\.weight$", r"stages\.(\d)\.(?:blocks\.)?(\d+)\.(?:conv_dw|dwconv)\.weight$"
    for inside, stages in _staged(shapes, *patterns):
        width = next((s[0] for s in inside.values() if s[1:] == (1, 7, 7)), 0)
        if size := _CONVNEXT.get((_depths(stages), width)):
            return f"convnext_{size}"
    return None


def _swin(shapes: Shapes) -> str | None:
    for inside, stages in _staged(shapes, r"features\.(\d)\.(\d+)\.attn\.", r"layers\.(\d)\.blocks\.(\d+)\.attn\."):
        width = next((shape[-1] for name, shape in inside.items() if name.endswith("attn.qkv.weight")), 0)
        if any(len(shape) == 5 for shape in inside.values()):
            continue  # it takes video
        if size := _SWIN.get((_depths(stages), width)):
            return f"swin_{'v2_' if any(name.endswith('logit_scale') for name in inside) else ''}{size}"
    return None


def _shufflenet_v2(shapes: Shapes) -> str | None:
    for inside, stages in _staged(shapes, r"stage([234])\.(\d+)\.branch2\."):
        size = _SHUFFLENET.get(inside.get("stage2.0.branch2.0.weight", (0,))[0])
        if size and _depths(stages) == (4, 8, 4):
            return f"shufflenet_v2_{size}"
    return None


Stages = Mapping[int, set[int]]

#: The literal text that a pattern of :func:`_staged` begins with.
_WORD = compiled_when_used(r"[a-z]+")


def _staged(shapes: Shapes, *patterns: str) -> Iterator[tuple[Shapes, Stages]]:
    """For each prefix under which names match a pattern (its groups are stage and block): what lies there, and each stage's blocks."""
    found: dict[str, dict[int, set[int]]] = {}
    for pattern in patterns:
        expression, word = compiled_when_used(rf"((?:.*\.)??){pattern}"), _WORD.match(pattern)
        for name in shapes:
            if word is not None and word[0] not in name:
                continue
            if (match := expression.match(name)) and (match[1] in found or len(found) < _MAX_SCOPES):
                found.setdefault(match[1], {}).setdefault(int(match[2]), set()).add(int(match[3]))
    insides = _inside(shapes, found)
    for scope, stages in found.items():
        yield insides[scope], stages


def _depths(stages: Stages) -> tuple[int, ...]:
    return tuple(len(stages[stage]) for stage in sorted(stages))


_FAMILIES: tuple[Callable[[Shapes], str | None], ...] = (
    *(_resnet, _densenet, _vgg, _mobilenet_v2, _mobilenet_v3),
    *(_efficientnet, _convnext, _swin, _shufflenet_v2, _vit, slim_backbone),
)


def _scopes_of(shapes: Shapes, word: str) -> list[str]:
    """The first prefixes that end in the segment ``word``, with its closing dot, each once."""
    seen: dict[str, None] = {}
    expression, within = compiled_when_used(rf"(?:^|\.){word}\."), f"{word}."
    for name in shapes:
        if within not in name:
            continue
        for match in expression.finditer(name):
            seen[name[: match.end()]] = None
            if len(seen) == _MAX_SCOPES:
                return list(seen)
    return list(seen)


def _inside(shapes: Shapes, scopes: Iterable[str]) -> dict[str, dict[str, tuple[int, ...]]]:
    """What lies below each of the prefixes, named from there, in one pass over all names."""
    found: dict[str, dict[str, tuple[int, ...]]] = {scope: {} for scope in scopes}
    # Prefixes that exist are short; those of a name with thousands of segments need not be tried.
    longest = max(map(len, found), default=-1)
    for name, shape in shapes.items():
        end = 0
        while end <= longest:
            if (inside := found.get(name[:end])) is not None:
                inside[name[end:]] = shape
            end = name.find(".", end) + 1
            if not end:
                break
    return found
