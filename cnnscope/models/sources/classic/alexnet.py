"""AlexNet: Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep CNNs".

Sections 3.3 to 3.5 and figure 2. torchvision's `alexnet` is another network: the one of "One weird
trick for parallelizing convolutional neural networks" (2014), with 64 kernels in conv1.

The paper says 224x224, but 55x55 outputs of an 11x11 kernel with stride 4 need 227:
(227 - 11)/4 + 1. It counts 253,440 units in the first layer, and 55*55*96 are 290,400.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class AlexNet(nn.Module):
    """Five convolutions, local response norms, overlapping pools, three linear layers.

    With `groups=2` conv2, conv4 and conv5 see the half of the maps that lay on their own GPU:
    60,965,224 parameters ("60 million"). With `groups=1` it is the same network on one GPU,
    62,378,344.
    """

    def __init__(self, groups: int = 2, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.norm1 = _norm()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=groups)
        self.norm2 = _norm()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=groups)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.dropout = nn.Dropout(0.5)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 227 x 227 to N x classes."""
        x = self.pool1(self.norm1(relu(self.conv1(x), inplace=True)))
        x = self.pool2(self.norm2(relu(self.conv2(x), inplace=True)))
        x = relu(self.conv3(x), inplace=True)
        x = relu(self.conv4(x), inplace=True)
        x = self.pool5(relu(self.conv5(x), inplace=True))
        x = self.dropout(torch.flatten(x, 1))
        x = self.dropout(relu(self.fc6(x), inplace=True))
        x = relu(self.fc7(x), inplace=True)
        return self.fc8(x)


def _norm() -> nn.Module:
    """Section 3.3: n = 5, alpha = 1e-4, beta = 0.75, k = 2.

    torch divides alpha by n, the paper does not.
    """
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)
