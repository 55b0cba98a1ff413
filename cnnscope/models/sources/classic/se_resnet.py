"""SE-ResNet-50: Hu, Shen, Sun 2018, "Squeeze-and-Excitation Networks", table 1 and section 4.

The two linear layers of each block have no bias, as in its equations 3 and 5:
2/r * sum(blocks * channels^2) = 2,514,944 parameters more than ResNet-50 ("about 2.5 million").
Table 2 prints 3.87 billion operations, which counts pools as well: the multiply-adds are 3.860.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import relu

from cnnscope.models.sources.classic.resnet import LAYERS, Bottleneck, ResNet


class SqueezeExcite(nn.Module):
    """Each channel times a number between 0 and 1, made from the means of all of them."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(channels, channels // reduction, bias=False)
        self.fc2 = nn.Linear(channels // reduction, channels, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        scale = self.squeeze(x).flatten(1)
        scale = self.sigmoid(self.fc2(relu(self.fc1(scale), inplace=True)))
        return x * scale[:, :, None, None]


class SEBottleneck(Bottleneck):
    """A bottleneck that is recalibrated before its shortcut is added (figure 3)."""

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: str, *, reduction: int
    ) -> None:
        super().__init__(in_channels, width, stride, shortcut)
        self.se = SqueezeExcite(self.out_channels, reduction)

    def residual(self, x: Tensor) -> Tensor:
        """The convolutions, recalibrated."""
        return self.se(super().residual(x))


def se_resnet50(reduction: int = 16, num_classes: int = 1000) -> ResNet:
    """Table 1, middle. `reduction` is r."""
    block = partial(SEBottleneck, reduction=reduction)
    return ResNet(block, LAYERS[50], num_classes=num_classes)
