"""VGG: Simonyan, Zisserman 2014, "Very Deep Convolutional Networks", section 2.

Table 1, of which torchvision has A, B, D and E. Here are A-LRN and C, whose third convolutions of a
stage are 1x1, and two forms for 32x32 pictures that no paper defines.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

Kernels = tuple[tuple[int, ...], ...]

# Kernel sizes of the convolutions of each of the five stages; a 2x2 pool follows each stage.
A: Kernels = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B: Kernels = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C: Kernels = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D: Kernels = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E: Kernels = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
MIXED: Kernels = ((3, 3), (3, 3), (3, 3, 3, 1), (3, 3, 3, 1), (3, 3, 3, 1))

_BY_DEPTH = {11: A, 13: B, 16: D, 19: E}


class VGG(nn.Module):
    """Five stages of small kernels, three linear layers.

    Args:
        kernels: kernel sizes of the convolutions of each stage.
        image_size: side of the input, which the stages divide by 32.
        base_dim: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        hidden: units of the two hidden linear layers.
        batch_norm: a batch norm behind every convolution.
        local_response_norm: one behind the first convolution.
        num_classes: units of the last layer.
    """

    def __init__(
        self,
        kernels: Kernels,
        image_size: int = 224,
        base_dim: int = 64,
        hidden: int = 4096,
        *,
        batch_norm: bool = False,
        local_response_norm: bool = False,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for stage, (sizes, factor) in enumerate(zip(kernels, (1, 2, 4, 8, 8), strict=True), 1):
            for number, size in enumerate(sizes, 1):
                name = f"{stage}_{number}"
                width = factor * base_dim
                layers[f"conv{name}"] = nn.Conv2d(channels, width, size, padding=size // 2)
                if batch_norm:
                    layers[f"bn{name}"] = nn.BatchNorm2d(width)
                layers[f"relu{name}"] = nn.ReLU(inplace=True)
                if local_response_norm and name == "1_1":
                    layers[f"norm{name}"] = nn.LocalResponseNorm(5, alpha=5 * 1e-4, k=2.0)
                channels = width
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * (image_size // 32) ** 2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x image_size x image_size to N x classes."""
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg11_lrn(num_classes: int = 1000) -> VGG:
    """Configuration A-LRN: A with AlexNet's local response norm behind its first convolution."""
    return VGG(A, local_response_norm=True, num_classes=num_classes)


def vgg16_c(num_classes: int = 1000) -> VGG:
    """Configuration C: 133,638,952 parameters (table 2: 134 million)."""
    return VGG(C, num_classes=num_classes)


def vgg_bn_cifar(depth: int, num_classes: int = 10) -> VGG:
    """VGG with batch norm for 32x32 pictures: 1x1 is left of them, so 512 -> 4096 -> 4096."""
    return VGG(_BY_DEPTH[depth], image_size=32, batch_norm=True, num_classes=num_classes)


def vgg_1x1_cifar(base_dim: int = 16, num_classes: int = 10) -> VGG:
    """A small VGG for 32x32 pictures with a 1x1 convolution after each block of three 3x3.

    All widths are VGG's times base_dim/64, those of the linear layers too.
    """
    return VGG(
        MIXED, image_size=32, base_dim=base_dim, hidden=64 * base_dim, num_classes=num_classes
    )
