"""ResNets: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition".

Table 1 (ImageNet), figure 3 (the plain networks) and section 4.2 (CIFAR-10). torchvision's ResNets
halve the size in the 3x3 of a bottleneck ("v1.5"), the paper's in its first 1x1. Table 1 prints 3.8
billion multiply-adds for 50 layers; they are 3.86.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

# Blocks of each stage (table 1).
LAYERS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and a shortcut around them (figure 5, left), or none."""

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.out_channels = width
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = make_shortcut(shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x width x H/stride x W/stride."""
        out = relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (figure 5, right). The first of them strides, or the 3x3 in later practice."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: str,
        *,
        stride_in_3x3: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = 4 * width
        first, second = (1, stride) if stride_in_3x3 else (stride, 1)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, self.out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x 4*width x H/stride x W/stride."""
        out = self.residual(x)
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return relu(out, inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        """The convolutions alone."""
        out = relu(self.bn1(self.conv1(x)), inplace=True)
        out = relu(self.bn2(self.conv2(out)), inplace=True)
        return self.bn3(self.conv3(out))


class ResNet(nn.Module):
    """A stem, stages of equal blocks, a mean, a linear layer.

    Args:
        block: makes a block of (in_channels, width, stride, shortcut), such as `Bottleneck`.
        layers: blocks of each stage; every stage but the first halves the size.
        widths: channels inside the blocks of each stage.
        shortcut: option A, B or C of section 4.1, or "none".
        small: for 32x32 pictures: a stem of one 3x3 convolution, without a pool.
        num_classes: units of the linear layer.
    """

    def __init__(
        self,
        block: Callable[[int, int, int, str], BasicBlock | Bottleneck],
        layers: tuple[int, ...],
        *,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        shortcut: str = "B",
        small: bool = False,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        channels = widths[0]
        if small:
            self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = None if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages: list[str] = []
        for stage, (count, width) in enumerate(zip(layers, widths, strict=True), 1):
            blocks: list[nn.Module] = []
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                made = block(channels, width, stride, shortcut)
                channels = made.out_channels
                blocks.append(made)
            self.stages.append(f"layer{stage}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes."""
        x = relu(self.bn1(self.conv1(x)), inplace=True)
        if self.maxpool is not None:
            x = self.maxpool(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class PaddedIdentity(nn.Module):
    """Option A: every stride-th pixel as it is, and zeros for the channels that are new."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x (C + extra) x H/stride x W/stride."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def make_shortcut(
    option: str, in_channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """Make the shortcut of a block (section 4.1, "Identity vs. Projection Shortcuts").

    A pads with zeros where the shape changes, B projects there, C projects everywhere.

    Raises:
        ValueError: another option.
    """
    if option == "none":
        return None
    if option not in ("A", "B", "C"):
        raise ValueError(f"shortcut {option!r}: the paper has the options A, B and C")
    same = stride == 1 and in_channels == out_channels
    if same and option != "C":
        return nn.Identity()
    if option == "A":
        return PaddedIdentity(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def plain(depth: int, num_classes: int = 1000) -> ResNet:
    """Figure 3, middle: the same layers without shortcuts. plain34 is 3.6 billion multiply-adds."""
    return ResNet(BasicBlock, LAYERS[depth], shortcut="none", num_classes=num_classes)


def resnet_v1(depth: int, shortcut: str | None = None, num_classes: int = 1000) -> ResNet:
    """Table 1. The shortcuts are the paper's: A in table 2 (18, 34 layers), B for the deeper.

    With `shortcut="B"` the 18 and 34 layers are torchvision's.
    """
    block = BasicBlock if depth < 50 else Bottleneck
    shortcut = shortcut or ("A" if depth < 50 else "B")
    return ResNet(block, LAYERS[depth], shortcut=shortcut, num_classes=num_classes)


def resnet_cifar(depth: int, num_classes: int = 10) -> ResNet:
    """Table 1's stages behind a 3x3 stem, for 32x32 pictures: common practice, in no paper.

    As in weiaicunzai/pytorch-cifar100 and kuangliu/pytorch-cifar (models/resnet.py), bottlenecks
    stride in the 3x3: 23,705,252 parameters of 50 layers with 100 classes.
    """
    block = BasicBlock if depth < 50 else partial(Bottleneck, stride_in_3x3=True)
    return ResNet(block, LAYERS[depth], small=True, num_classes=num_classes)


def resnet_cifar10(depth: int, num_classes: int = 10) -> ResNet:
    """Section 4.2: 6n + 2 layers, 16, 32 and 64 channels, shortcuts of option A (table 6)."""
    blocks = ((depth - 2) // 6,) * 3
    return ResNet(
        BasicBlock,
        blocks,
        widths=(16, 32, 64),
        shortcut="A",
        small=True,
        num_classes=num_classes,
    )
