"""ESPNetv2 for segmentation (Mehta et al. 2019, arXiv:1811.11431) with the parameter names of its published checkpoints."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)


def _convolution(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class _Named(nn.Module):
    """Convolution, norm and activation in a row, each left out where it is not named."""

    def __init__(self, inputs, outputs, kernel=0, stride=1, groups=1, act=True, norm=True):
        super().__init__()
        if kernel:
            self.conv = _convolution(inputs, outputs, kernel, stride, groups)
        if norm:
            self.bn = nn.BatchNorm2d(outputs)
        if act:
            self.act = nn.PReLU(outputs)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def _numbered(name, *modules):
    holder = nn.Sequential()
    holder.add_module(name, nn.Sequential(*modules))
    return holder


def _numbered_unit(inputs, outputs, kernel, groups=1):
    return _numbered("cbr", _convolution(inputs, outputs, kernel, 1, groups), nn.BatchNorm2d(outputs), nn.PReLU(outputs))


def _numbered_norm(width):
    return _numbered("br", nn.BatchNorm2d(width), nn.PReLU(width))


class _Dilated(nn.Module):
    def __init__(self, width, stride, dilation):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride, dilation, dilation, groups=width, bias=False)

    def forward(self, x):
        return self.conv(x)


class _Block(nn.Module):
    """Reduce, look with four dilations, merge; ``field`` is the largest field of view of one branch."""

    def __init__(self, inputs, outputs, stride, field, branches=4):
        super().__init__()
        width = outputs // branches
        self.stride = stride
        self.proj_1x1 = _Named(inputs, width, 1, groups=branches)
        dilations = sorted(1 + i if 3 + 2 * i <= field else 1 for i in range(branches))
        self.spp_dw = nn.ModuleList(_Dilated(width, stride, dilation) for dilation in dilations)
        self.conv_1x1_exp = _Named(outputs, outputs, 1, groups=branches, act=False)
        self.br_after_cat = _Named(outputs, outputs)
        self.module_act = nn.PReLU(outputs)

    def forward(self, x):
        reduced = self.proj_1x1(x)
        seen = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            seen.append(branch(reduced) + seen[-1])
        y = self.conv_1x1_exp(self.br_after_cat(torch.cat(seen, 1)))
        if self.stride == 2:
            return y
        return self.module_act(y + x if y.shape == x.shape else y)


class _Down(nn.Module):
    def __init__(self, inputs, outputs, field):
        super().__init__()
        self.eesp = _Block(inputs, outputs - inputs, 2, field)
        self.inp_reinf = nn.Sequential(_Named(3, 3, 3), _Named(3, outputs, 1, act=False))
        self.act = nn.PReLU(outputs)

    def forward(self, x, image):
        small = F.avg_pool2d(x, 3, 2, 1)
        y = torch.cat([small, self.eesp(x)], 1)
        while image.shape[2] != small.shape[2]:
            image = F.avg_pool2d(image, 3, 2, 1)
        return self.act(y + self.inp_reinf(image))


class _Shuffle(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class _Pyramid(nn.Module):
    def __init__(self, inputs, width, outputs, last=False):
        super().__init__()
        self.projection_layer = _numbered_unit(inputs, width, 1)
        self.stages = nn.ModuleList(_convolution(width, width, 3, groups=width) for _ in SCALES)
        merged = width * len(SCALES)
        self.merge_layer = nn.Sequential(
            _numbered_norm(merged),
            _Shuffle(len(SCALES)),
            _numbered_unit(merged, width, 3, groups=width),
            nn.Conv2d(width, outputs, 1, bias=last),
        )
        if not last:
            self.br = _numbered_norm(outputs)

    def forward(self, x):
        x = self.projection_layer(x)
        size, seen = x.shape[2:], []
        for scale, stage in zip(SCALES, self.stages, strict=True):
            scaled = [max(math.ceil(side * scale), 5) for side in size]
            if scale < 1:
                y = F.interpolate(stage(F.adaptive_avg_pool2d(x, scaled)), size, mode="bilinear", align_corners=True)
            elif scale > 1:
                y = F.adaptive_avg_pool2d(stage(F.interpolate(x, scaled, mode="bilinear", align_corners=True)), size)
            else:
                y = stage(x)
            seen.append(y)
        y = self.merge_layer(torch.cat(seen, 1))
        return self.br(y) if hasattr(self, "br") else y


class _Weighted(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), _convolution(inputs, outputs, 1), nn.Sigmoid())
        self.expansion_layer = _numbered_unit(inputs, outputs, 3, math.gcd(inputs, outputs))

    def forward(self, x):
        return self.expansion_layer(x) * self.wt_layer(x)


def _norm(width):
    return nn.Sequential(nn.BatchNorm2d(width), nn.PReLU(width))


class ESPNetv2(nn.Module):
    """The network of width 1.0: logits of ``classes`` for each pixel; sides are multiples of 16."""

    def __init__(self, classes=21):
        super().__init__()
        self.base_net = nn.Module()
        self.base_net.level1 = _Named(3, 32, 3, 2)
        self.base_net.level2_0 = _Down(32, 128, 13)
        self.base_net.level3_0 = _Down(128, 256, 11)
        self.base_net.level3 = nn.ModuleList(_Block(256, 256, 1, 9) for _ in range(3))
        self.base_net.level4_0 = _Down(256, 512, 9)
        self.base_net.level4 = nn.ModuleList(_Block(512, 512, 1, 7) for _ in range(7))
        width = min(classes // 2, 16)
        self.bu_dec_l1 = _Pyramid(512, width, 64)
        self.bu_dec_l2 = _Pyramid(64, width, 48)
        self.bu_dec_l3 = _Pyramid(48, width, 32)
        self.bu_dec_l4 = _Pyramid(32, width, classes, last=True)
        self.merge_enc_dec_l2, self.merge_enc_dec_l3, self.merge_enc_dec_l4 = _Weighted(256, 64), _Weighted(128, 48), _Weighted(32, 32)
        self.bu_br_l2, self.bu_br_l3, self.bu_br_l4 = _norm(64), _norm(48), _norm(32)

    def forward(self, image):
        one = self.base_net.level1(image)
        two = self.base_net.level2_0(one, image)
        three = self.base_net.level3_0(two, image)
        for block in self.base_net.level3:
            three = block(three)
        four = self.base_net.level4_0(three, image)
        for block in self.base_net.level4:
            four = block(four)
        y = self.bu_dec_l1(four)
        for merge, norm, decode, skip in (
            (self.merge_enc_dec_l2, self.bu_br_l2, self.bu_dec_l2, three),
            (self.merge_enc_dec_l3, self.bu_br_l3, self.bu_dec_l3, two),
            (self.merge_enc_dec_l4, self.bu_br_l4, self.bu_dec_l4, one),
        ):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
            y = decode(norm(merge(skip) + y))
        return F.interpolate(y, image.shape[2:], mode="bilinear", align_corners=True)
