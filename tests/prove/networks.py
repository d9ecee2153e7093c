"""Small networks in two spellings; the second differs in one setting where that is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Plain(nn.Module):
    """A convolution, two residual branches of one shape, a head."""

    def __init__(self, eps: float = 1e-5, stride: int = 2, padding: int = 1, activation: str = "relu"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(8, eps)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(8, eps)
        self.fc = nn.Linear(8, 5)
        self.activation = activation

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = x + getattr(F, self.activation)(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Renamed(nn.Module):
    """The same under other names."""

    def __init__(self, **settings):
        super().__init__()
        other = Plain(**settings)
        self.stem = nn.Sequential(other.conv1, other.bn1)
        self.body = nn.Sequential(other.conv2, other.bn2)
        self.head = other.fc
        self.activation = other.activation

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + getattr(F, self.activation)(self.body(x))
        return self.head(x.mean((2, 3)))


class Parallel(nn.Module):
    """Two branches of one shape that are fed the same: only what they make of it tells them apart."""

    def __init__(self, names=("proj", "proj_bn", "conv", "conv_bn"), swapped=False, stride=2):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        proj, conv = nn.Conv2d(8, 8, 1, stride, bias=False), nn.Conv2d(8, 8, 1, bias=False)
        layers = list(zip(names, (proj, nn.BatchNorm2d(8), conv, nn.BatchNorm2d(8)), strict=True))
        for name, layer in layers[2:] + layers[:2] if swapped else layers:
            self.add_module(name, layer)
        self.names = names
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        proj, proj_bn, conv, conv_bn = (getattr(self, name) for name in self.names)
        return self.fc(proj_bn(proj(x)).mean((2, 3)) + conv_bn(conv(x)).relu().mean((2, 3)))


def parallel_renamed(**settings):
    return Parallel(("left", "left_norm", "right", "right_norm"), swapped=True, **settings)


class Opposed(nn.Module):
    """Two branches of one shape, the first of which is added and the second taken away."""

    def __init__(self, names=("stem", "plus", "minus", "fc")):
        super().__init__()
        self.names = names
        branches = (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)) for _ in range(2))
        for name, layer in sorted(zip(names, (nn.Conv2d(3, 8, 3), *branches, nn.Linear(8, 5)), strict=True)):
            self.add_module(name, layer)

    def forward(self, x):
        stem, plus, minus, fc = (getattr(self, name) for name in self.names)
        x = stem(x)
        return fc((x + plus(x) - minus(x)).relu().mean((2, 3)))


class Uncalled(Parallel):
    """One of the branches goes through the tensors of its module, and the module itself is never called."""

    def forward(self, x):
        x = self.stem(x)
        proj, proj_bn, conv, conv_bn = (getattr(self, name) for name in self.names)
        return self.fc(proj_bn(proj(x)).mean((2, 3)) + conv_bn(F.conv2d(x, conv.weight)).mean((2, 3)))


class TwoHeads(nn.Module):
    """Two heads of one shape, by these names, which give their outputs in this order."""

    def __init__(self, names=("age", "sex"), order=(0, 1)):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.names, self.order = names, order
        for name in names:
            setattr(self, name, nn.Linear(6, 3))

    def forward(self, x):
        features = self.body(x).mean((2, 3))
        return tuple(getattr(self, self.names[at])(features) for at in self.order)


def swish():
    return Renamed(activation="silu")


def other_eps():
    return Renamed(eps=1e-3)


def other_stride():
    return Renamed(stride=1)


def other_padding():
    return Renamed(padding=0)


def wider():
    return nn.Sequential(nn.Conv2d(3, 9, 3), nn.Flatten())


class _Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.n1 = nn.BatchNorm2d(outputs)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.n2 = nn.BatchNorm2d(outputs)
        self.added = outputs - inputs

    def forward(self, x):
        y = self.n2(self.c2(F.relu(self.n1(self.c1(x)))))
        if self.added:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """The residual network for CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2) with names of its own."""

    def __init__(self, blocks=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        widths = (16, 16, 32, 64)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(_Block(widths[s] if b == 0 else widths[s + 1], widths[s + 1], 2 if s and b == 0 else 1) for b in range(blocks))
                )
                for s in range(3)
            )
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class ONet(nn.Module):
    """The output network of MTCNN (Zhang et al. 2016, arXiv:1604.02878) with the names of facenet-pytorch."""

    NAMES = (
        "conv1",
        "prelu1",
        "conv2",
        "prelu2",
        "conv3",
        "prelu3",
        "conv4",
        "prelu4",
        "dense5",
        "prelu5",
        "dense6_1",
        "dense6_2",
        "dense6_3",
    )

    def __init__(self, names=NAMES):
        super().__init__()
        made = (
            *(nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.Conv2d(64, 64, 3), nn.PReLU(64)),
            *(nn.Conv2d(64, 128, 2), nn.PReLU(128), nn.Linear(1152, 256), nn.PReLU(256), nn.Linear(256, 2), nn.Linear(256, 4)),
            nn.Linear(256, 10),
        )
        self.order = names
        for name, module in zip(names, made, strict=True):
            self.add_module(name, module)

    def forward(self, x):
        layer = [getattr(self, name) for name in self.order]
        x = F.max_pool2d(layer[1](layer[0](x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(layer[3](layer[2](x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(layer[5](layer[4](x)), 2, 2, ceil_mode=True)
        x = layer[7](layer[6](x)).permute(0, 3, 2, 1).contiguous()
        x = layer[9](layer[8](x.view(x.shape[0], -1)))
        return layer[12](x), layer[11](x), F.softmax(layer[10](x), dim=1)


def onet_twin():
    return ONet(
        (
            "first",
            "first_act",
            "second",
            "second_act",
            "third",
            "third_act",
            "fourth",
            "fourth_act",
            "hidden",
            "hidden_act",
            "face",
            "box",
            "points",
        )
    )


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in module.named_buffers():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(100)
    return module.eval()
