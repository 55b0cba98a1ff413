"""He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks", figure 4(e), table 4.

Norm and ReLU come before each convolution, so that nothing but additions lies on the way from the
input to the output. For CIFAR: 110 layers of 3x3, 164 and 1001 of bottlenecks. Table 4 prints 10.2
million parameters for 1001 layers: those of the weights alone; with the norms there are 10.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class PreactBlock(nn.Module):
    """Convolutions, each behind a batch norm and a ReLU, and a shortcut around all of them.

    Where the shape changes the shortcut is a projection, which sees the first ReLU's output.
    """

    def __init__(self, in_channels: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        out_channels = 4 * width if bottleneck else width
        self.bn1 = nn.BatchNorm2d(in_channels)
        kernel = 1 if bottleneck else 3
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width) if bottleneck else None
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False) if bottleneck else None
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        out = relu(self.bn1(x), inplace=True)
        if self.shortcut is not None:
            x = self.shortcut(out)
        out = self.conv2(relu(self.bn2(self.conv1(out)), inplace=True))
        if self.bn3 is not None and self.conv3 is not None:
            out = self.conv3(relu(self.bn3(out), inplace=True))
        return x + out


class PreactResNet(nn.Module):
    """A 3x3 stem, three stages of 16, 32 and 64 channels, a last norm, a mean, a linear layer."""

    def __init__(self, blocks: int, *, bottleneck: bool, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        expansion = 4 if bottleneck else 1
        channels = [16, 16 * expansion, 32 * expansion, 64 * expansion]
        self.layer1 = _stage(channels[0], 16, 1, blocks, bottleneck=bottleneck)
        self.layer2 = _stage(channels[1], 32, 2, blocks, bottleneck=bottleneck)
        self.layer3 = _stage(channels[2], 64, 2, blocks, bottleneck=bottleneck)
        self.bn = nn.BatchNorm2d(channels[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 to N x classes."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = relu(self.bn(x), inplace=True)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def preact_resnet(depth: int, num_classes: int = 10) -> PreactResNet:
    """6n + 2 layers of 3x3 (110), or 9n + 2 of bottlenecks (164, 1001)."""
    bottleneck = depth != 110
    blocks = (depth - 2) // (9 if bottleneck else 6)
    return PreactResNet(blocks, bottleneck=bottleneck, num_classes=num_classes)


def _stage(
    in_channels: int, width: int, stride: int, blocks: int, *, bottleneck: bool
) -> nn.Sequential:
    out_channels = 4 * width if bottleneck else width
    first = PreactBlock(in_channels, width, stride, bottleneck=bottleneck)
    rest = (PreactBlock(out_channels, width, 1, bottleneck=bottleneck) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
