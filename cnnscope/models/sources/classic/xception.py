"""Xception: Chollet 2017, "Deep Learning with Depthwise Separable Convolutions", figure 5.

Table 3: 22,855,952 parameters.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class Xception(nn.Module):
    """Entry flow, eight middle blocks, exit flow: 36 convolutional layers in 14 modules."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.entry = nn.Sequential(
            _Block((64, 128, 128), stride=2, first_relu=False),
            _Block((128, 256, 256), stride=2),
            _Block((256, 728, 728), stride=2),
        )
        self.middle = nn.Sequential(*(_Block((728, 728, 728, 728)) for _ in range(8)))
        self.exit = _Block((728, 728, 1024), stride=2)
        self.sep1 = _separable(1024, 1536)
        self.sep2 = _separable(1536, 2048)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 299 x 299 to N x classes."""
        x = relu(self.bn1(self.conv1(x)), inplace=True)
        x = relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.exit(self.middle(self.entry(x)))
        x = relu(self.sep1(x), inplace=True)
        x = relu(self.sep2(x), inplace=True)
        return self.fc(torch.flatten(self.pool(x), 1))


class _Block(nn.Module):
    """Separable convolutions of these widths, a pool if it strides, and a shortcut around them."""

    def __init__(
        self, widths: tuple[int, ...], stride: int = 1, *, first_relu: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(widths)):
            if number or first_relu:
                layers.append(nn.ReLU())  # not in place: the shortcut reads the block's input
            layers.append(_separable(before, after))
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Sequential() if stride == 1 else _projection(widths[0], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x widths[-1] x H/stride x W/stride, rounded up."""
        return self.layers(x) + self.shortcut(x)


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 for each channel by itself, then a 1x1, nothing between them (section 2.2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels)
    )
