"""U-Net as its paper draws it: unpadded convolutions, so that 572x572 in gives 388x388 out.

    cnnscope summary examples/unet.py:UNet --input 1x572x572
    cnnscope rf examples/unet.py:UNet --input 1x572x572

Ronneberger, Fischer, Brox 2015, figure 1.
"""

import torch
from torch import nn


class Double(nn.Sequential):
    """Two 3x3 convolutions, each of which takes a pixel off every border."""

    def __init__(self, inputs, outputs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.Conv2d(outputs, outputs, 3), nn.ReLU()
        )


def crop(x, like):
    """The middle of x, as large as `like`."""
    top, left = ((x.shape[d] - like.shape[d]) // 2 for d in (2, 3))
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


class UNet(nn.Module):
    def __init__(self, width=64, num_classes=2):
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(map(Double, [1, *widths], widths))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.join = nn.ModuleList(Double(a, b) for a, b in pairs)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        skips = []
        for level, double in enumerate(self.down):
            x = double(self.pool(x) if level else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = up(x)
            x = join(torch.cat([crop(skip, like=x), x], dim=1))
        return self.head(x)
