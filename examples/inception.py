"""An Inception network in small: parallel convolutions of several sizes, joined by channel.

    cnnscope summary examples/inception.py:InceptionNet --input 3x96x96
    cnnscope summary examples/inception.py:Naive --input 192x28x28 --arg inputs=192
    cnnscope summary examples/inception.py:Inception --input 192x28x28 --arg inputs=192

The last two are the naive module and the one with dimension reduction at the size of layer 3a
(Szegedy et al. 2014, figure 2 and table 1), to compare what they cost.
"""

import torch
from torch import nn


class Naive(nn.Module):
    """Figure 2a."""

    def __init__(self, inputs, c1=64, c3=128, c5=32):
        super().__init__()
        self.one = nn.Conv2d(inputs, c1, 1)
        self.three = nn.Conv2d(inputs, c3, 3, padding=1)
        self.five = nn.Conv2d(inputs, c5, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.five(x), self.pool(x)]
        return torch.cat(branches, dim=1)


class Inception(nn.Module):
    """Figure 2b: 1x1 convolutions make the input narrow before the dear ones."""

    def __init__(self, inputs, c1=64, r3=96, c3=128, r5=16, c5=32, pool=32):
        super().__init__()
        self.one = nn.Conv2d(inputs, c1, 1)
        self.three = nn.Sequential(
            nn.Conv2d(inputs, r3, 1), nn.ReLU(), nn.Conv2d(r3, c3, 3, padding=1)
        )
        self.five = nn.Sequential(
            nn.Conv2d(inputs, r5, 1), nn.ReLU(), nn.Conv2d(r5, c5, 5, padding=2)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(inputs, pool, 1))

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.five(x), self.pool(x)]
        return torch.cat(branches, dim=1).relu()


class InceptionNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        self.mixed = nn.Sequential(Inception(64), Inception(256), nn.MaxPool2d(2), Inception(256))
        self.head = nn.Linear(256, num_classes)

    def forward(self, x):
        return self.head(self.mixed(self.stem(x)).mean((2, 3)))
