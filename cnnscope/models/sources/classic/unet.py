"""U-Net.

Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation".

Figure 1 and section 2: 23 convolutional layers (the four up-convolutions counted), none padded, so
that a tile of 572x572 is answered in its middle 388x388.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Four steps down, four up; each step up is given the middle of what its step down saw.

    Args:
        in_channels: 1 for the paper's microscope.
        base_dim: channels of the first step, doubled with every step down.
        num_classes: channels of the output.
    """

    def __init__(self, in_channels: int = 1, base_dim: int = 64, num_classes: int = 2) -> None:
        super().__init__()
        widths = [base_dim * 2**step for step in range(5)]
        self.down = nn.ModuleList(
            _two_convolutions(before, after)
            for before, after in zip((in_channels, *widths[:3]), widths[:4], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottom = _two_convolutions(widths[3], widths[4])
        self.up = nn.ModuleList(_Up(width) for width in reversed(widths[:4]))
        self.output = nn.Conv2d(base_dim, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x 572 x 572 to N x classes x 388 x 388."""
        skipped: list[Tensor] = []
        for step in self.down:
            skipped.append(step(x))
            x = self.pool(skipped[-1])
        x = self.bottom(x)
        for step in self.up:
            x = step(x, skipped.pop())
        return self.output(x)


class _Up(nn.Module):
    """A 2x2 up-convolution to half of the channels, the skipped maps beside it, two 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.convolutions = _two_convolutions(2 * width, width)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """N x 2C x H x W to N x C x (2H - 4) x (2W - 4)."""
        x = self.up(x)
        top = (skipped.shape[-2] - x.shape[-2]) // 2
        left = (skipped.shape[-1] - x.shape[-1]) // 2
        middle = skipped[..., top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.convolutions(torch.cat((middle, x), dim=1))


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(inplace=True),
    )
