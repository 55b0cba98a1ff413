"""WRN-28-10: Zagoruyko, Komodakis 2016, "Wide Residual Networks", tables 1 and 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from cnnscope.models.sources.classic.preact_resnet import PreactBlock


class WideResNet(nn.Module):
    """A pre-activation ResNet of 3x3 blocks with 16, 32 and 64 channels, `widen_factor` times.

    Args:
        depth: 6n + 4 convolutions, the projections of the three stages counted.
        widen_factor: k of the paper.
        num_classes: units of the linear layer.
    """

    def __init__(self, depth: int = 28, widen_factor: int = 10, num_classes: int = 10) -> None:
        super().__init__()
        if depth % 6 != 4:
            raise ValueError(f"depth {depth}: must be 6n + 4, such as 16, 22, 28 or 40")
        blocks = (depth - 4) // 6
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.layer1 = _stage(widths[0], widths[1], 1, blocks)
        self.layer2 = _stage(widths[1], widths[2], 2, blocks)
        self.layer3 = _stage(widths[2], widths[3], 2, blocks)
        self.bn = nn.BatchNorm2d(widths[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 to N x classes."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = relu(self.bn(x), inplace=True)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _stage(in_channels: int, width: int, stride: int, blocks: int) -> nn.Sequential:
    first = PreactBlock(in_channels, width, stride, bottleneck=False)
    rest = (PreactBlock(width, width, 1, bottleneck=False) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
