"""DenseNets.

Huang, Liu, van der Maaten, Weinberger 2017, "Densely Connected Convolutional Networks": section 3,
table 2 (CIFAR) and table 1 (`densenet264`, which torchvision lacks).

Layer l of a block is given k0 + k (l - 1) maps: those that came into the block, and k of each layer
before it. Table 1's DenseNet-264 has one layer more than its name says:
2 (6 + 12 + 64 + 48) + 3 + 1 + 1 = 265.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class DenseLayer(nn.Module):
    """BN-ReLU-Conv(3x3), behind BN-ReLU-Conv(1x1) to 4k maps in a bottleneck layer (DenseNet-B)."""

    def __init__(self, in_channels: int, growth_rate: int, *, bottleneck: bool) -> None:
        super().__init__()
        self.bottleneck = _convolution(in_channels, 4 * growth_rate, 1) if bottleneck else None
        channels = 4 * growth_rate if bottleneck else in_channels
        self.conv = _convolution(channels, growth_rate, 3)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x (C + k) x H x W: what came in, and k new maps."""
        out = x if self.bottleneck is None else self.bottleneck(x)
        return torch.cat((x, self.conv(out)), dim=1)


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, a mean, a linear layer.

    Args:
        layers: of each dense block.
        growth_rate: k, the maps that each layer adds.
        stem: k0, the maps that the first block is given.
        bottleneck: 1x1 convolutions before the 3x3 (the B of DenseNet-BC).
        compression: theta, the share of maps that a transition keeps (its C is 0.5).
        small: for 32x32 pictures: a stem of one 3x3 convolution, without a pool.
        num_classes: units of the linear layer.
    """

    def __init__(
        self,
        layers: tuple[int, ...],
        growth_rate: int,
        stem: int,
        *,
        bottleneck: bool,
        compression: float,
        small: bool,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = _small_stem(stem) if small else _large_stem(stem)
        self.features = nn.Sequential()
        channels = stem
        for number, count in enumerate(layers, 1):
            inputs = range(channels, channels + count * growth_rate, growth_rate)
            made = (DenseLayer(maps, growth_rate, bottleneck=bottleneck) for maps in inputs)
            self.features.add_module(f"block{number}", nn.Sequential(*made))
            channels += count * growth_rate
            if number < len(layers):
                kept = int(channels * compression)
                transition = nn.Sequential(_convolution(channels, kept, 1), nn.AvgPool2d(2))
                self.features.add_module(f"transition{number}", transition)
                channels = kept
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes."""
        x = self.features(self.stem(x))
        x = relu(self.norm(x), inplace=True)
        return self.classifier(torch.flatten(self.pool(x), 1))


def densenet(depth: int, growth_rate: int, num_classes: int = 10) -> DenseNet:
    """Table 2, neither bottlenecks nor compression: three blocks of (depth - 4)/3, k0 = 16."""
    return DenseNet(
        ((depth - 4) // 3,) * 3,
        growth_rate,
        stem=16,
        bottleneck=False,
        compression=1.0,
        small=True,
        num_classes=num_classes,
    )


def densenet_bc(depth: int, growth_rate: int, num_classes: int = 10) -> DenseNet:
    """Table 2, DenseNet-BC: three blocks of (depth - 4)/6 layers of two convolutions, k0 = 2k."""
    return DenseNet(
        ((depth - 4) // 6,) * 3,
        growth_rate,
        stem=2 * growth_rate,
        bottleneck=True,
        compression=0.5,
        small=True,
        num_classes=num_classes,
    )


def densenet264(growth_rate: int = 32, num_classes: int = 1000) -> DenseNet:
    """Table 1, last column."""
    return DenseNet(
        (6, 12, 64, 48),
        growth_rate,
        stem=2 * growth_rate,
        bottleneck=True,
        compression=0.5,
        small=False,
        num_classes=num_classes,
    )


def _convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """BN-ReLU-Conv, of the same size."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
    )


def _small_stem(channels: int) -> nn.Module:
    return nn.Conv2d(3, channels, 3, padding=1, bias=False)


def _large_stem(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
