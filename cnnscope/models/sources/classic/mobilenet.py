"""MobileNet: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks", table 1.

4.2 million parameters and 569 million multiply-adds (table 4); tables 4 to 7 give the figures of
its variants. Table 1 prints stride 2 for the last depthwise convolution, whose output is 7x7 for
an input of 7x7: it is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Out channels and stride of the blocks behind the first convolution.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
_SHALLOW = _BLOCKS[:6] + _BLOCKS[11:]


class MobileNetV1(nn.Module):
    """A convolution, 13 depthwise separable ones, a mean, a linear layer.

    Args:
        width_mult: alpha of section 3.3, a factor for all channels.
        separable: False for the "Conv MobileNet" of table 4, of full 3x3 convolutions.
        shallow: without the five blocks of 14x14x512 (table 5).
        num_classes: units of the linear layer.
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        *,
        separable: bool = True,
        shallow: bool = False,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        block = _separable if separable else _convolution
        channels = int(32 * width_mult)
        self.conv1 = _convolution(3, channels, stride=2)
        self.features = nn.Sequential()
        for number, (width, stride) in enumerate(_SHALLOW if shallow else _BLOCKS, 2):
            out_channels = int(width * width_mult)
            self.features.add_module(f"conv{number}", block(channels, out_channels, stride))
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes."""
        x = self.features(self.conv1(x))
        return self.fc(torch.flatten(self.pool(x), 1))


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Figure 3, left: a full 3x3."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Figure 3, right: a 3x3 for each channel by itself, then a 1x1 over all channels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
