"""ZFNet: Zeiler, Fergus 2014, "Visualizing and Understanding Convolutional Networks", figure 3.

AlexNet on one GPU with a first layer of 7x7/2 in place of 11x11/4. The figure's sizes (224, 110,
55, 26, 13, 6) need what it does not print: conv1 padded by 1, and pools that round up. It names
"contrast normalisation across feature maps", for which AlexNet's local response norm stands here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class ZFNet(nn.Module):
    """Eight layers: 96, 256, 384, 384, 256 maps, 4096 and 4096 units, classes."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2, padding=1)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = nn.LocalResponseNorm(5, alpha=5 * 1e-4, k=2.0)
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm2 = nn.LocalResponseNorm(5, alpha=5 * 1e-4, k=2.0)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1)
        self.pool5 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 224 x 224 to N x classes."""
        x = self.norm1(self.pool1(relu(self.conv1(x), inplace=True)))
        x = self.norm2(self.pool2(relu(self.conv2(x), inplace=True)))
        x = relu(self.conv3(x), inplace=True)
        x = relu(self.conv4(x), inplace=True)
        x = self.pool5(relu(self.conv5(x), inplace=True))
        x = self.dropout(relu(self.fc6(torch.flatten(x, 1)), inplace=True))
        x = self.dropout(relu(self.fc7(x), inplace=True))
        return self.fc8(x)
