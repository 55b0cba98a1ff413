"""A detection head as RetinaNet has it: one set of weights runs on every level of a pyramid.

    cnnscope summary examples/detection_head.py:Head --depth 1

Lin et al. 2017, section 4. Its parameters count once and its MACs on every level: almost all of
them on the finest. The head says itself what it takes (`example_inputs`).
"""

import torch
from torch import nn


class Head(nn.Module):
    example_inputs = ((1, 256, 64, 64), (1, 256, 32, 32), (1, 256, 16, 16))

    def __init__(self, channels=256, anchors=9, num_classes=80):
        super().__init__()
        tower = []
        for _ in range(4):
            tower += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*tower)
        self.classes = nn.Conv2d(channels, anchors * num_classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, anchors * 4, 3, padding=1)

    def forward(self, p3, p4, p5):
        features = [self.tower(level) for level in (p3, p4, p5)]
        classes = [self.classes(level).flatten(2) for level in features]
        boxes = [self.boxes(level).flatten(2) for level in features]
        return torch.cat(classes, dim=2), torch.cat(boxes, dim=2)
