"""A small segmentation network, as users write them: the model side of the sharded sample."""

import torch
from torch import nn


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)))


class TinyUNet(nn.Module):
    """Encoder and decoder of three levels; (N, 3, H, W) → (N, num_classes, H, W), H and W divisible by 4."""

    def __init__(self, num_classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([ConvBlock(3, width), ConvBlock(width, 2 * width), ConvBlock(2 * width, 4 * width)])
        self.decoder = nn.ModuleList([ConvBlock(6 * width, 2 * width), ConvBlock(3 * width, width)])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits per pixel."""
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.decoder, (skips[1], skips[0]), strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2), skip], 1))
        logits: torch.Tensor = self.head(x)
        return logits


def build(num_classes: int = 2) -> TinyUNet:
    """The network with freshly initialised weights."""
    return TinyUNet(num_classes)
