"""The table of classic networks: names, and what makes each.

One file per family, each naming its papers and the tables that it follows. What a paper prints and
its own table does not give is said there, and no network is bent to reach a number.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope import __version__
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec

if TYPE_CHECKING:
    from torch import nn

IMAGENET: Shape = (3, 224, 224)
CIFAR: Shape = (3, 32, 32)


class _Model(NamedTuple):
    """Factory and input of a model.

    `file` is one of this folder, `factory` what is called in it, with what the name fixes in
    `arguments`; `input` is C, H, W.
    """

    file: str
    factory: str
    input: Shape
    arguments: Mapping[str, Any] = {}
    task: str = "classification"


_MODELS: dict[str, _Model] = {
    "lenet1989": _Model("lenet", "LeNet1989", (1, 16, 16)),
    "lenet5": _Model("lenet", "LeNet5", (1, 32, 32)),
    "lenet5_paper": _Model("lenet", "LeNet5Paper", (1, 32, 32)),
    "alexnet_paper": _Model("alexnet", "AlexNet", (3, 227, 227), {"groups": 2}),
    "alexnet_one_gpu": _Model("alexnet", "AlexNet", (3, 227, 227), {"groups": 1}),
    "zfnet": _Model("zfnet", "ZFNet", IMAGENET),
    "network_in_network": _Model("nin", "NetworkInNetwork", CIFAR),
    "all_cnn_c": _Model("all_cnn", "AllCNNC", CIFAR),
    "vgg11_lrn": _Model("vgg", "vgg11_lrn", IMAGENET),
    "vgg16_c": _Model("vgg", "vgg16_c", IMAGENET),
    **{
        f"vgg{depth}_bn_cifar": _Model("vgg", "vgg_bn_cifar", CIFAR, {"depth": depth})
        for depth in (11, 13, 16, 19)
    },
    "vgg_1x1_cifar": _Model("vgg", "vgg_1x1_cifar", CIFAR),
    "googlenet_paper": _Model("inception", "GoogLeNet", IMAGENET),
    "inception_naive": _Model("inception", "inception_naive", (192, 28, 28), task="module"),
    "inception_reduced": _Model("inception", "inception_reduced", (192, 28, 28), task="module"),
    "xception": _Model("xception", "Xception", (3, 299, 299)),
    **{
        f"plain{depth}": _Model("resnet", "plain", IMAGENET, {"depth": depth}) for depth in (18, 34)
    },
    **{
        f"resnet{depth}_v1": _Model("resnet", "resnet_v1", IMAGENET, {"depth": depth})
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"resnet{depth}_cifar": _Model("resnet", "resnet_cifar", CIFAR, {"depth": depth})
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"resnet{depth}_cifar10": _Model("resnet", "resnet_cifar10", CIFAR, {"depth": depth})
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    **{
        f"preact_resnet{depth}": _Model("preact_resnet", "preact_resnet", CIFAR, {"depth": depth})
        for depth in (110, 164, 1001)
    },
    "wide_resnet28_10": _Model("wide_resnet", "WideResNet", CIFAR),
    "resnext29_8x64d": _Model("resnext", "ResNeXt29", CIFAR),
    "se_resnet50": _Model("se_resnet", "se_resnet50", IMAGENET),
    **{
        f"densenet{depth}_{growth}": _Model(
            "densenet", "densenet", CIFAR, {"depth": depth, "growth_rate": growth}
        )
        for depth, growth in ((40, 12), (100, 12), (100, 24))
    },
    **{
        f"densenet_bc_{depth}_{growth}": _Model(
            "densenet", "densenet_bc", CIFAR, {"depth": depth, "growth_rate": growth}
        )
        for depth, growth in ((100, 12), (250, 24), (190, 40))
    },
    "densenet264": _Model("densenet", "densenet264", IMAGENET),
    "mobilenet_v1": _Model("mobilenet", "MobileNetV1", IMAGENET),
    "darknet19": _Model("darknet", "Darknet19", IMAGENET),
    "darknet53": _Model("darknet", "Darknet53", (3, 256, 256)),
    "unet": _Model("unet", "UNet", (1, 572, 572), task="segmentation"),
    "fcn32s_vgg16": _Model("fcn", "FCN32s", (3, 500, 500), task="segmentation"),
}


def names() -> list[str]:
    """Every classic model, without importing torch."""
    return list(_MODELS)


def versions() -> dict[str, str]:
    """Of cnnscope, in which the models are written, and of torch."""
    import torch

    return {"cnnscope": __version__, "torch": str(torch.__version__)}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the model's constructor with what its name fixes and the requested arguments."""
    model = _MODELS[name]
    module = importlib.import_module(f"cnnscope.models.sources.classic.{model.file}")
    factory: Callable[..., nn.Module] = getattr(module, model.factory)
    return factory(**model.arguments, **arguments)


def default_inputs(name: str, model: nn.Module) -> Inputs:
    """The size that the paper gives the model; a model whose arguments decide it says so itself."""
    shape: Shape = getattr(model, "input_shape", _MODELS[name].input)
    return Inputs((TensorSpec((1, *shape)),))


def about(name: str, shape: Shape) -> About:
    """Family (the file that defines it) and task. Random weights have no accuracy."""
    del shape  # what is said of a model does not depend on it
    model = _MODELS[name]
    return About(model.file, model.task)
