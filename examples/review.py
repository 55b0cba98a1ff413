"""A small network with mistakes that run without an error, and that cannot be seen in its shapes.

    cnnscope summary examples/review.py --input 3x33x33 --depth 1

The layers of `blocks` are in a plain list, the bias before a batch norm does nothing, pools of 2 on
33 x 33 pixels leave out the last row and column, `old_head` is forgotten, what `scale` computes is
detached, dropout is active in inference, and the softmax is there twice once a loss adds its own.
"""

from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = [nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)]
        self.scale = nn.Linear(64, 64)
        self.old_head = nn.Linear(64, 100)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        x = functional.max_pool2d(self.stem(x), 2)
        for block in self.blocks:
            x = block(x)
        x = functional.dropout(x.relu().mean((2, 3)), 0.2)
        x = x * self.scale(x).sigmoid().detach()
        return self.head(x).softmax(1)
