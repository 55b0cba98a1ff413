"""A ResNet-18 whose layers are frozen, but for a new head and the last stages.

    cnnscope summary examples/transfer.py --input 3x224x224 --columns layer,params,trainable
    cnnscope memory examples/transfer.py --input 3x224x224 --batch-size 32 --arg unfrozen=1

What is trained changes neither shapes nor MACs of a forward; it changes the memory of training.
"""

from torch import nn
from torchvision.models import resnet18


class Transfer(nn.Module):
    """Features of ResNet-18 with a head of their own.

    Args:
        classes: of the head, which is trained.
        unfrozen: how many of the four stages are trained with it, the last ones first.
    """

    def __init__(self, classes=5, unfrozen=0):
        super().__init__()
        self.backbone = resnet18()  # with weights="DEFAULT" every number is the same
        self.backbone.requires_grad_(requires_grad=False)
        self.backbone.fc = nn.Linear(512, classes)
        for name in ("layer4", "layer3", "layer2", "layer1")[:unfrozen]:
            getattr(self.backbone, name).requires_grad_()

    def forward(self, x):
        return self.backbone(x)
