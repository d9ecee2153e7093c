"""Two segmentation models, of which weights were released."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18


class Decoder(nn.Module):
    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 64, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.classifier = nn.Conv2d(64, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(self.norm(self.reduce(features)).relu())


class Large(nn.Module):
    def __init__(self, num_classes: int = 21) -> None:
        super().__init__()
        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.decoder = Decoder(512, num_classes)


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.conv(features)).relu()


class Small(nn.Module):
    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Block(3, 16), Block(16, 32), Block(32, 64))
        self.head = nn.Conv2d(64, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))
