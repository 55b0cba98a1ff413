"""Springenberg, Dosovitskiy, Brox, Riedmiller 2015, "Striving for Simplicity".

All-CNN-C of table 2: pools become convolutions with stride 2, the linear layer a 1x1 convolution.
The last 3x3 is not padded: "global averaging over 6x6 spatial dimensions".
"""

from __future__ import annotations

from torch import Tensor, nn


class AllCNNC(nn.Module):
    """Nine convolutions and a mean: 1.4 million parameters (table 3)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Dropout(0.2),
            *_convolution(3, 96),
            *_convolution(96, 96),
            *_convolution(96, 96, stride=2),
            nn.Dropout(0.5),
            *_convolution(96, 192),
            *_convolution(192, 192),
            *_convolution(192, 192, stride=2),
            nn.Dropout(0.5),
            *_convolution(192, 192, padding=0),
            *_convolution(192, 192, kernel_size=1, padding=0),
            *_convolution(192, num_classes, kernel_size=1, padding=0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 32 x 32 to N x classes."""
        return self.features(x).mean(dim=(2, 3))


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, padding: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    return convolution, nn.ReLU(inplace=True)
