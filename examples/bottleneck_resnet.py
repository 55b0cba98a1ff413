"""A bottleneck ResNet with a mistake: every block has a projection, and few of them use it.

    cnnscope summary examples/bottleneck_resnet.py --input 3x224x224

Only where the shape changes does forward go through `projection`; the others weigh something, are
saved and given to the optimiser, and never learn. cnnscope names them.
"""

from torch import nn


class _Bottleneck(nn.Module):
    """He et al. 2015, figure 5, right."""

    def __init__(self, inputs, width, stride=1):
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.same = inputs == outputs and stride == 1

    def forward(self, x):
        shortcut = x if self.same else self.projection(x)
        return (self.body(x) + shortcut).relu()


class ResNet(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        self.layer1 = nn.Sequential(_Bottleneck(64, 64), _Bottleneck(256, 64))
        self.layer2 = nn.Sequential(_Bottleneck(256, 128, stride=2), _Bottleneck(512, 128))
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))
