"""Darknets, the backbones of YOLO.

Darknet-19: Redmon, Farhadi 2017, "YOLO9000: Better, Faster, Stronger", table 6: 5.58 billion
operations at 224x224. Darknet-53: Redmon, Farhadi 2018, "YOLOv3: An Incremental Improvement",
tables 1 and 2: 18.7 billion at 256x256, where the layers of its table total 18.57. Their
operations are FLOPs, two of each multiply-add.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Darknet-19's stages: 3x3 convolutions of so many channels, and between them 1x1 of half of them.
_STAGES_19 = ((32, 1), (64, 1), (128, 3), (256, 3), (512, 5), (1024, 5))

# Darknet-53's stages: channels, and how many residual blocks follow the convolution that strides.
_STAGES_53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))


class Darknet19(nn.Module):
    """18 convolutions of 3x3 and 1x1 by turns, five pools, a 1x1 to the classes, a mean."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for number, (width, count) in enumerate(_STAGES_19, 1):
            layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2)]
            for turn in range(count):
                kernel_size, out_channels = (1, width // 2) if turn % 2 else (3, width)
                layers.append(_convolution(channels, out_channels, kernel_size))
                channels = out_channels
            self.features.add_module(f"stage{number}", nn.Sequential(*layers))
        self.conv = nn.Conv2d(channels, num_classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes."""
        return torch.flatten(self.pool(self.conv(self.features(x))), 1)


class Darknet53(nn.Module):
    """52 convolutions, 23 shortcuts, a mean, a linear layer. No pool: convolutions stride."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, 3)
        self.features = nn.Sequential()
        channels = 32
        for number, (width, blocks) in enumerate(_STAGES_53, 1):
            stage = nn.Sequential(_convolution(channels, width, 3, stride=2))
            stage.extend(_Residual(width) for _ in range(blocks))
            self.features.add_module(f"stage{number}", stage)
            channels = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes."""
        x = self.features(self.stem(x))
        return self.fc(torch.flatten(self.pool(x), 1))


class _Residual(nn.Module):
    """A 1x1 to half of the channels, a 3x3 back to all, and a shortcut around both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels // 2, 1)
        self.conv2 = _convolution(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        return x + self.conv2(self.conv1(x))


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1, inplace=True),
    )
