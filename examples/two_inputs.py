"""Two inputs: colour and depth images, each through its own branch, fused by concatenation.

    cnnscope summary examples/two_inputs.py:RGBD --input 3x64x64 --input 1x64x64

The sizes are given in the order of forward's arguments.
"""

import torch
from torch import nn


def branch(channels):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
    )


class RGBD(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.colour = branch(3)
        self.depth = branch(1)
        self.fuse = nn.Conv2d(64, 64, 1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, colour, depth):
        fused = self.fuse(torch.cat([self.colour(colour), self.depth(depth)], dim=1))
        return self.head(fused.relu().mean((2, 3)))
