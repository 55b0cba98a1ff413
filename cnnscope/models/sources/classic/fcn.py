"""FCN-32s: Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation".

VGG-16 with its linear layers as convolutions (table 1: 134 million parameters, 16 convolutions
before the upsampling, receptive field 404, stride 32). torchvision's FCNs are dilated ResNets.
"""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class FCN32s(nn.Module):
    """Any size in, scores of the same size out, upsampled from 1/32 in one step.

    The input is padded by 100, as the authors' network does, so that every picture is large enough
    for the 7x7 of fc6; the upsampling is bilinear and fixed: its weights are not trained.
    """

    def __init__(self, num_classes: int = 21) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for stage, (width, count) in enumerate(_STAGES, 1):
            for number in range(1, count + 1):
                padding = 100 if stage == number == 1 else 1
                convolution = nn.Conv2d(channels, width, 3, padding=padding)
                self.features.add_module(f"conv{stage}_{number}", convolution)
                self.features.add_module(f"relu{stage}_{number}", nn.ReLU(inplace=True))
                channels = width
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2, ceil_mode=True))
        self.fc6 = nn.Conv2d(channels, 4096, 7)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.relu6 = nn.ReLU(inplace=True)
        self.relu7 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout2d(0.5)
        self.score = nn.Conv2d(4096, num_classes, 1)
        self.upsample = nn.ConvTranspose2d(num_classes, num_classes, 64, stride=32, bias=False)
        self.upsample.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W to N x classes x H x W."""
        height, width = x.shape[-2:]
        x = self.dropout(self.relu6(self.fc6(self.features(x))))
        x = self.dropout(self.relu7(self.fc7(x)))
        x = self.upsample(self.score(x))
        return x[:, :, 19 : 19 + height, 19 : 19 + width]
