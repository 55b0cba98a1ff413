"""A small VGG with a 1x1 convolution after the 3x3 ones of each block, for 32x32 images.

    cnnscope summary examples/vgg_1x1.py --input 3x32x32 --arg base_dim=16

Configuration C of Simonyan and Zisserman 2014 (table 1) ends its blocks in this way: a 1x1
convolution adds a nonlinearity and sees no more of the image than the one before it.
"""

from torch import nn


def block(inputs, outputs, convolutions):
    layers = []
    for index in range(convolutions):
        layers += [nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(outputs, outputs, 1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


class VGG(nn.Module):
    def __init__(self, base_dim=64, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            block(3, base_dim, 2),
            block(base_dim, 2 * base_dim, 2),
            block(2 * base_dim, 4 * base_dim, 3),
        )
        self.classifier = nn.Linear(4 * base_dim * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))
