"""ResNeXt-29: Xie, Girshick, Dollar, Tu, He 2017, "Aggregated Residual Transformations".

Section 5.2 and table 7: 34.4 million parameters for 8x64d, 68.1 million for 16x64d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class ResNeXt29(nn.Module):
    """Three stages of three bottlenecks with grouped 3x3 convolutions, for CIFAR.

    Args:
        cardinality: groups.
        width: channels of each group in the first stage; doubled with every stage.
        num_classes: units of the linear layer.
    """

    def __init__(self, cardinality: int = 8, width: int = 64, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, cardinality, width, 256, stride=1)
        self.layer2 = _stage(256, cardinality, 2 * width, 512, stride=2)
        self.layer3 = _stage(512, cardinality, 4 * width, 1024, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 to N x classes."""
        x = relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class _Block(nn.Module):
    """1x1, grouped 3x3, 1x1 (figure 3c), and a shortcut, projected where the shape changes."""

    def __init__(
        self, in_channels: int, cardinality: int, width: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        inner = cardinality * width
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        out = relu(self.bn1(self.conv1(x)), inplace=True)
        out = relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out)) + self.shortcut(x)
        return relu(out, inplace=True)


def _stage(
    in_channels: int, cardinality: int, width: int, out_channels: int, stride: int
) -> nn.Sequential:
    return nn.Sequential(
        _Block(in_channels, cardinality, width, out_channels, stride),
        _Block(out_channels, cardinality, width, out_channels, 1),
        _Block(out_channels, cardinality, width, out_channels, 1),
    )
