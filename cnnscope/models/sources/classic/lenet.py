"""The first convolutional networks that were put to work.

LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel 1989, "Backpropagation Applied to
Handwritten Zip Code Recognition", section 3 (`LeNet1989`); LeCun, Bottou, Bengio, Haffner 1998,
"Gradient-Based Learning Applied to Document Recognition", section II.B, figure 2 and table I
(`LeNet5Paper`), and the form of it that is taught today (`LeNet5`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

# Table I of 1998: the maps of S2 that each map of C3 is connected to.
_C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Eight of the twelve maps of H1 for each third of H2. The paper says how many, not which.
_H2_INPUTS = ((0, 8), (4, 12), (8, 16))


class LeNet5(nn.Module):
    """LeNet-5 as it is taught: every map of C3 sees all of S2, plain averages, linear output.

    61,706 parameters (the paper's own network has 60,000: `LeNet5Paper`). It takes 32x32, as
    published; the 28x28 digits of MNIST get a border of 2, which is the same as padding C1 by 2.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Linear(16 * 5 * 5, 120)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 1 x 32 x 32 (or 28 x 28) to N x classes."""
        if x.shape[-2:] == (28, 28):
            x = pad(x, (2, 2, 2, 2))
        x = self.s2(torch.tanh(self.c1(x)))
        x = self.s4(torch.tanh(self.c3(x)))
        x = torch.tanh(self.c5(torch.flatten(x, 1)))
        x = torch.tanh(self.f6(x))
        return self.output(x)


class LeNet5Paper(nn.Module):
    """LeNet-5 as published, with exactly the 60,000 trainable parameters that the paper counts.

    C3 is connected by table I, subsampling has a coefficient and a bias for each map, the squash
    is 1.7159 tanh(2/3 a), and the output measures the distance from fixed prototypes (which are
    random here, and hand-drawn 7x12 pictures of the digits in the paper).
    """

    prototypes: Tensor

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = _Subsampling(6)
        self.c3 = nn.ModuleList(nn.Conv2d(len(maps), 1, 5) for maps in _C3_INPUTS)
        self.s4 = _Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.register_buffer("prototypes", torch.randn(num_classes, 84).sign())

    def forward(self, x: Tensor) -> Tensor:
        """N x 1 x 32 x 32 to N x classes: squared distances, the smallest wins."""
        x = self.s2(_squash(self.c1(x)))
        maps = torch.split(x, 1, dim=1)
        x = torch.cat(
            [
                conv(torch.cat([maps[i] for i in chosen], dim=1))
                for conv, chosen in zip(self.c3, _C3_INPUTS, strict=True)
            ],
            dim=1,
        )
        x = self.s4(_squash(x))
        x = _squash(self.c5(x))
        x = _squash(self.f6(torch.flatten(x, 1)))
        return (x.unsqueeze(1) - self.prototypes).square().sum(dim=2)


class LeNet1989(nn.Module):
    """The zip code network: 16x16, two layers of shared kernels, a bias for every single unit.

    1,256 units, 64,660 connections and 9,760 parameters, as the paper counts them. H2 looks at
    eight of the twelve maps of H1; which, the paper does not say.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.h1 = nn.Conv2d(1, 12, 5, stride=2, padding=2, bias=False)
        self.h1_bias = nn.Parameter(torch.zeros(12, 8, 8))
        self.h2 = nn.ModuleList(
            nn.Conv2d(8, 4, 5, stride=2, padding=2, bias=False) for _ in _H2_INPUTS
        )
        self.h2_bias = nn.Parameter(torch.zeros(12, 4, 4))
        self.h3 = nn.Linear(12 * 4 * 4, 30)
        self.output = nn.Linear(30, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N x 1 x 16 x 16 to N x classes."""
        x = _squash(self.h1(x) + self.h1_bias)
        ring = torch.cat((x, x[:, :4]), dim=1)
        thirds = [
            conv(ring[:, first:last])
            for conv, (first, last) in zip(self.h2, _H2_INPUTS, strict=True)
        ]
        x = _squash(torch.cat(thirds, dim=1) + self.h2_bias)
        x = _squash(self.h3(torch.flatten(x, 1)))
        return _squash(self.output(x))


class _Subsampling(nn.Module):
    """The sum of each 2x2 square, times a trainable coefficient, plus a bias, one of each a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((channels, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H/2 x W/2."""
        x = avg_pool2d(x, 2, divisor_override=1)
        return _squash(x * self.coefficient + self.bias)


def _squash(x: Tensor) -> Tensor:
    """A scaled hyperbolic tangent (1998, appendix A)."""
    return 1.7159 * torch.tanh(x * (2 / 3))
