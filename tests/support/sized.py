"""Networks that do not work at every size of their input."""

import torch
from torch import nn
from torch.nn import functional as F


class Hourglass(nn.Module):
    """Adds what it upsampled by 4 to what it kept: 1 broadcasts, else multiples of 4."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))
        self.skip = nn.Conv2d(3, 8, 1)
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x):
        return self.skip(x) + self.up(self.down(x))


class Asserting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 8, 1)

    def forward(self, x):
        assert (x.shape[-1] - 1) % 8 == 0
        return self.conv(x)


class Refusing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x):
        if x.shape[-1] < 24 or x.shape[-2] % 12:
            raise ValueError(f"height {x.shape[-2]} must be a multiple of 12")
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, levels=4):
        super().__init__()
        wide = [3] + [8] * levels
        self.down = nn.ModuleList(nn.Conv2d(a, 8, 3, 1, 1) for a in wide)
        self.up = nn.ModuleList(nn.Conv2d(16, 8, 3, 1, 1) for _ in range(levels))
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2)

    def forward(self, x):
        kept = []
        for conv in self.down[:-1]:
            x = conv(x)
            kept.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for conv in self.up:
            x = conv(torch.cat([kept.pop(), self.grow(x)], 1))
        return x


class Flattened(nn.Module):
    """A linear layer of 16 = 1*4*4 features: 7 and 8 halve to 4."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 1, 3, 2, 1)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.a(x).flatten(1))


class Flat(nn.Module):
    """Needs 16 rows, and any width from 5 on."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 4, (1, 5))
        self.b = nn.Conv1d(64, 4, 1)

    def forward(self, x):
        return self.b(self.a(x).flatten(1, 2))


class Wide(nn.Module):
    """Twice as wide as high."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, (1, 2), 1)

    def forward(self, x):
        y = self.conv(x)
        return y @ y


class Tall(nn.Module):
    """A smallest square of 9 that may be cut along its width, and not along its height."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (9, 3))

    def forward(self, x):
        return self.conv(x)


class Wave(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 16, 8)

    def forward(self, wave):
        return self.conv(wave.reshape(-1, 1, wave.shape[-1]))


class Volume(nn.Module):
    """Pools 2 x 4 x 4: frames from 2 on, squares from 4 on."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.pool = nn.MaxPool3d((2, 4, 4))

    def forward(self, x):
        return self.pool(self.conv(x))


class Last(nn.Module):
    """Channels last: N, H, W, C."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)

    def forward(self, x):
        return self.conv(x.permute(0, 3, 1, 2))


class Tokens(nn.Module):
    """N, positions, features."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 8)
        self.b = nn.LayerNorm(8)

    def forward(self, x):
        return self.b(self.a(x))[:, 2]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(9, 4)
        self.c = nn.Conv1d(4, 4, 3)

    def forward(self, x):
        return self.c(self.e(x).transpose(1, 2))


class Pair(nn.Module):
    """Two images of one size, and a number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 4, 2)

    def forward(self, left, right, time):
        return self.conv(torch.cat([left, right], 1)) * time


class OnCpu(nn.Module):
    """Makes a constant on the CPU: a bare forward on meta does not run."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.grid = None

    def forward(self, x):
        print("runs")  # noqa: T201
        grid = torch.ones(x.shape[-1] - 2, device="cpu")
        return self.conv(x) * grid


class Looking(nn.Module):
    """Looks at its data, and works at multiples of 3."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 3)

    def forward(self, x):
        if x.sum().item() < -1:
            return x
        return F.interpolate(self.conv(x), scale_factor=3) + x[:, :1]


class Caching(nn.Module):
    """Keeps a grid of the first size that it meets, as detection heads do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 1, 1)
        self.grid = None

    def forward(self, x):
        if self.grid is None:
            self.grid = torch.zeros(x.shape[-2:], device=x.device)
        return self.conv(x) + self.grid


class Twisted(nn.Module):
    """From 3 on, but not at 4."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return y.reshape(-1) if y.shape[-1] != 2 else y.reshape(3)
