"""Lin, Chen, Yan 2014, "Network In Network", figure 2 and section 4.

A small perceptron (two 1x1 convolutions) slides behind each convolution, and the mean over each of
the last maps is a class's score. The paper prints no widths: these are of the configuration that
its authors published for CIFAR-10.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NetworkInNetwork(nn.Module):
    """Three blocks of a convolution and two 1x1, then a global average. No linear layer."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.block1 = _block(3, (192, 160, 96), kernel_size=5)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.block2 = _block(96, (192, 192, 192), kernel_size=5)
        self.pool2 = nn.AvgPool2d(3, stride=2, ceil_mode=True)
        self.block3 = _block(192, (192, 192, num_classes), kernel_size=3)
        self.dropout = nn.Dropout(0.5)
        self.pool3 = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 to N x classes."""
        x = self.dropout(self.pool1(self.block1(x)))
        x = self.dropout(self.pool2(self.block2(x)))
        return torch.flatten(self.pool3(self.block3(x)), 1)


def _block(in_channels: int, widths: tuple[int, int, int], kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size, and a perceptron of two layers at each position."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, first, kernel_size, padding=kernel_size // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, third, 1),
        nn.ReLU(inplace=True),
    )
