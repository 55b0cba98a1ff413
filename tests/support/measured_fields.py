"""Published and measured receptive fields, and the small graphs that some of them belong to."""

from __future__ import annotations

import json

import torch
from paths import DATA
from torch import nn
from torch.nn import functional as F

MEASURED = json.loads((DATA / "receptive_fields.json").read_text(encoding="utf-8"))


class Lambda(nn.Module):
    """A module whose forward is a function of the module and its input."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        return self.function(self, x)


def conv(k, s=1, p=0, d=1):
    return nn.Conv1d(1, 1, k, s, p, d)


def twice(m, x):
    return m.a(x) - m.a(x) + x


SYNTHETIC = {
    "distill misaligned toy": Lambda(
        lambda m, x: m.a(F.pad(x, (2, 1))) + m.b(m.c(x)),
        a=conv(5, 2), b=conv(3, 1), c=conv(3, 1),
    ),
    "distill aligned toy": Lambda(
        lambda m, x: m.a(x) + m.c(m.b(F.pad(x, (1, 0)))), a=conv(1, 4), b=conv(3, 2), c=conv(1, 2)
    ),
    "conv3 s2 p1 -> convT k2": nn.Sequential(
        conv(3, 2, 1), nn.ConvTranspose1d(1, 1, 2, 2), conv(3, 1, 1)
    ),
    "conv3 s2 p1 -> convT k3": nn.Sequential(
        conv(3, 2, 1), nn.ConvTranspose1d(1, 1, 3, 2, 1, output_padding=1)
    ),
    "conv3 s2 p1 -> nearest": nn.Sequential(
        conv(3, 2, 1), nn.Upsample(scale_factor=2), conv(3, 1, 1)
    ),
    "linear x3": nn.Upsample(scale_factor=3, mode="linear"),
    "unet": Lambda(
        lambda m, x: m.d(
            torch.cat([m.a(x), F.interpolate(m.b(F.max_pool1d(m.a(x), 2)), scale_factor=2)], 1)
        ),
        a=conv(3, 1, 1), b=conv(3, 1, 1), d=nn.Conv1d(2, 1, 3, 1, 1),
    ),
    "dilated": conv(3, 1, 3, 3),
    "avgpool3": nn.AvgPool1d(3, 2, ceil_mode=True),
    "adaptive_avg_pool 10->7": nn.AdaptiveAvgPool1d(7),
    "adaptive_avg_pool 12->4": nn.AdaptiveAvgPool1d(4),
    "even kernel": nn.Conv1d(1, 1, 4, padding="same"),
    "non-aligned": Lambda(
        lambda m, x: F.interpolate(m.a(x), scale_factor=2) + m.b(x), a=conv(1, 2), b=conv(3, 1, 1)
    ),
    "cancellation": Lambda(twice, a=conv(3, 1, 1)),
    "SE": nn.Sequential(conv(1), Lambda(lambda _, x: x * x.mean(2, keepdim=True))),
}  # fmt: skip
