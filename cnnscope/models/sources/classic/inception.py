"""GoogLeNet: Szegedy et al. 2014, "Going Deeper with Convolutions", figures 2 and 3, table 1.

torchvision's `googlenet` has batch norms, and a 3x3 where the paper has the 5x5 convolution.

Table 1 and the network that it describes disagree in places. Its K are 1024, its ops
multiply-adds. Those of conv2, 3a to 4e, 5b and the linear layer are what the widths give. Its row
of 5a (1072K, 54M) is not what its widths give (1018K, 51M), nor is its first row (2.7K, 34M): a 7x7
convolution from 3 to 64 channels has 9,408 weights and, 112x112 times, 118M multiply-adds. The
column of parameters adds up to 6.8M, that of operations to 1502M ("1.5 billion"); the network has
7.0M and 1583M.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from cnnscope.models.sources.classic.inception_table import BLOCKS, Block


class InceptionReduced(nn.Module):
    """Figure 2(b): 1x1 convolutions reduce what the 3x3 and the 5x5 see, and what the pool adds."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.input_shape = (block.in_channels, block.size, block.size)
        self.conv1x1 = nn.Conv2d(block.in_channels, block.ch1, 1)
        self.reduce3x3 = nn.Conv2d(block.in_channels, block.reduce3, 1)
        self.conv3x3 = nn.Conv2d(block.reduce3, block.ch3, 3, padding=1)
        self.reduce5x5 = nn.Conv2d(block.in_channels, block.reduce5, 1)
        self.conv5x5 = nn.Conv2d(block.reduce5, block.ch5, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = nn.Conv2d(block.in_channels, block.project, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x (ch1 + ch3 + ch5 + project) x H x W."""
        branch1 = relu(self.conv1x1(x), inplace=True)
        branch3 = relu(self.reduce3x3(x), inplace=True)
        branch3 = relu(self.conv3x3(branch3), inplace=True)
        branch5 = relu(self.reduce5x5(x), inplace=True)
        branch5 = relu(self.conv5x5(branch5), inplace=True)
        pooled = relu(self.project(self.pool(x)), inplace=True)
        return torch.cat((branch1, branch3, branch5, pooled), dim=1)


class InceptionNaive(nn.Module):
    """Figure 2(a): all branches see all channels, and the pool hands all of them on."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.input_shape = (block.in_channels, block.size, block.size)
        self.conv1x1 = nn.Conv2d(block.in_channels, block.ch1, 1)
        self.conv3x3 = nn.Conv2d(block.in_channels, block.ch3, 3, padding=1)
        self.conv5x5 = nn.Conv2d(block.in_channels, block.ch5, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x (ch1 + ch3 + ch5 + C) x H x W."""
        branch1 = relu(self.conv1x1(x), inplace=True)
        branch3 = relu(self.conv3x3(x), inplace=True)
        branch5 = relu(self.conv5x5(x), inplace=True)
        return torch.cat((branch1, branch3, branch5, self.pool(x)), dim=1)


def inception_reduced(block: str = "3a") -> InceptionReduced:
    """The module with dimension reduction, with the sizes of a row of table 1.

    Raises:
        ValueError: the table has no such row.
    """
    return InceptionReduced(_row(block))


def inception_naive(block: str = "3a") -> InceptionNaive:
    """The naive module, with the sizes of a row of table 1.

    Raises:
        ValueError: the table has no such row.
    """
    return InceptionNaive(_row(block))


class GoogLeNet(nn.Module):
    """22 layers with weights: 3 convolutions, 9 modules of 2 each, a linear layer.

    Args:
        aux_heads: run the two auxiliary classifiers of figure 3, which the paper uses in training
            and throws away afterwards. The output is then three tensors.
        num_classes: units of the last layer.
    """

    def __init__(self, *, aux_heads: bool = False, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.pool1 = _pool()
        self.norm1 = _norm()
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.norm2 = _norm()
        self.pool2 = _pool()
        self.inception3a = inception_reduced("3a")
        self.inception3b = inception_reduced("3b")
        self.pool3 = _pool()
        self.inception4a = inception_reduced("4a")
        self.inception4b = inception_reduced("4b")
        self.inception4c = inception_reduced("4c")
        self.inception4d = inception_reduced("4d")
        self.inception4e = inception_reduced("4e")
        self.pool4 = _pool()
        self.inception5a = inception_reduced("5a")
        self.inception5b = inception_reduced("5b")
        self.pool5 = nn.AvgPool2d(7, stride=1)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(1024, num_classes)
        self.aux1 = _Auxiliary(512, num_classes) if aux_heads else None
        self.aux2 = _Auxiliary(528, num_classes) if aux_heads else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """N x 3 x 224 x 224 to N x classes; with auxiliary heads, three of them, the main first."""
        x = self.norm1(self.pool1(relu(self.conv1(x), inplace=True)))
        x = relu(self.conv2_reduce(x), inplace=True)
        x = self.pool2(self.norm2(relu(self.conv2(x), inplace=True)))
        x = self.pool3(self.inception3b(self.inception3a(x)))
        behind_4a = self.inception4a(x)
        behind_4d = self.inception4d(self.inception4c(self.inception4b(behind_4a)))
        x = self.pool4(self.inception4e(behind_4d))
        x = self.pool5(self.inception5b(self.inception5a(x)))
        x = self.fc(self.dropout(torch.flatten(x, 1)))
        if self.aux1 is None or self.aux2 is None:
            return x
        return x, self.aux1(behind_4a), self.aux2(behind_4d)


class _Auxiliary(nn.Module):
    """Section 5: average pool 5x5/3, 128 filters of 1x1, 1024 units, classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv = nn.Conv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x 14 x 14 to N x classes."""
        x = relu(self.conv(self.pool(x)), inplace=True)
        x = relu(self.fc1(torch.flatten(x, 1)), inplace=True)
        return self.fc2(self.dropout(x))


def _row(block: str) -> Block:
    if block not in BLOCKS:
        raise ValueError(f"no row {block!r} in table 1; there is {', '.join(BLOCKS)}")
    return BLOCKS[block]


def _pool() -> nn.MaxPool2d:
    """3x3/2, rounded up: 112 to 56, 56 to 28, 28 to 14, 14 to 7."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _norm() -> nn.LocalResponseNorm:
    """AlexNet's, which figure 3 shows twice without its constants."""
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, k=2.0)
