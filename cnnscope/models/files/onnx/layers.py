"""Layers of `torch.nn` that nodes are, with their hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cnnscope.models.files import rebuilt
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.rebuilt import Part

_AXES = {"Conv": "Conv", "ConvTranspose": "ConvTranspose", "QLinearConv": "Conv",
         "ConvInteger": "Conv", "com.microsoft.FusedConv": "Conv"}  # fmt: skip
_LAYERS = {
    "Gemm": nn.Linear, "LayerNormalization": nn.LayerNorm, "GroupNormalization": nn.GroupNorm,
    "LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN, "PRelu": nn.PReLU,
    "com.microsoft.QGemm": nn.Linear, "MatMul": nn.Linear, "QLinearMatMul": nn.Linear,
    "MatMulInteger": nn.Linear, "RMSNormalization": nn.RMSNorm,
}  # fmt: skip


_PLAIN = {  # of layers without weights
    "Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "LeakyRelu": nn.LeakyReLU,
    "Elu": nn.ELU, "Selu": nn.SELU, "Celu": nn.CELU, "Gelu": nn.GELU, "Mish": nn.Mish,
    "HardSwish": nn.Hardswish, "HardSigmoid": nn.Hardsigmoid, "Softmax": nn.Softmax,
    "LogSoftmax": nn.LogSoftmax, "Softplus": nn.Softplus, "Softsign": nn.Softsign,
    "Dropout": nn.Dropout, "Identity": nn.Identity, "Flatten": nn.Flatten,
    "GlobalAveragePool": nn.AdaptiveAvgPool2d, "LRN": nn.LocalResponseNorm,
    "Resize": nn.Upsample, "Upsample": nn.Upsample, "Clip": nn.Hardtanh,
}  # fmt: skip
_POOLS = {"MaxPool": "MaxPool", "AveragePool": "AvgPool"}


def class_of(node: OnnxNode, shape: tuple[int, ...] | None) -> str:
    """The class of the layer that a node with a weight of this shape is; "" for none."""
    if shape is None:
        axes = len(node.get("kernel_shape") or ())
        pool = node.op in _POOLS and 1 <= axes <= 3
        plain: Any = getattr(nn, f"{_POOLS[node.op]}{axes}d") if pool else _PLAIN.get(node.kind)
        return "" if plain is None else f"{plain.__module__}.{plain.__name__}"
    axes = len(shape) - 2
    if node.kind in _AXES and 1 <= axes <= 3:
        found: Any = getattr(nn, f"{_AXES[node.kind]}{axes}d")
    elif node.op == "BatchNormalization":
        return rebuilt.LAYERS + "batchnorm.BatchNorm2d"
    elif node.op == "InstanceNormalization":
        return rebuilt.LAYERS + "instancenorm.InstanceNorm2d"
    else:
        found = _LAYERS.get(node.kind)
    return "" if found is None else f"{found.__module__}.{found.__name__}"


def describe(part: Part, node: OnnxNode, shape: tuple[int, ...] | None) -> None:
    """Give a layer the hyper-parameters that its node tells.

    Args:
        part: the module.
        node: what it computes.
        shape: of its weight, None where it has none.
    """
    import inspect

    if not type(part).__module__.startswith(rebuilt.LAYERS):
        return
    wanted = inspect.signature(type(part).__init__).parameters
    rebuilt.note(part, wanted, _told(node, shape))
    if "in_channels" in wanted or "in_features" in wanted:
        part.register_parameter("bias", part._parameters.get("bias"))


def _told(node: OnnxNode, shape: tuple[int, ...] | None) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if "Conv" in node.op and shape is not None and len(shape) > 2:
        axes, groups = len(shape) - 2, node.get("group", 1)
        pads = tuple(node.get("pads") or (0,) * 2 * axes)
        wide = shape[1] * groups
        transposed = node.op == "ConvTranspose"
        found = {
            "in_channels": shape[0] if transposed else wide,
            "out_channels": wide if transposed else shape[0],
            "kernel_size": shape[2:],
            "stride": tuple(node.get("strides") or (1,) * axes),
            "padding": pads[:axes] if pads[:axes] == pads[axes:] else pads,
            "dilation": tuple(node.get("dilations") or (1,) * axes),
            "groups": groups,
            "padding_mode": "zeros",
        }
        automatic = node.get("auto_pad", "NOTSET")
        if automatic.startswith("SAME"):
            found["padding"] = "same"
    elif node.op == "Gemm" and shape is not None and len(shape) == 2:
        one, other = shape if node.get("transB") else tuple(reversed(shape))
        found = {"out_features": one, "in_features": other}
    elif node.op == "MatMul" and shape is not None and len(shape) == 2:
        found = {"in_features": shape[0], "out_features": shape[1]}
    elif "Pool" in node.op:
        axes = len(node.get("kernel_shape") or ())
        found = {
            "kernel_size": tuple(node.get("kernel_shape") or ()),
            "stride": tuple(node.get("strides") or (1,) * axes),
            "padding": tuple(node.get("pads") or (0,) * axes)[:axes],
            "ceil_mode": bool(node.get("ceil_mode")),
        }
    elif shape:
        found = {
            "num_features": shape[0],
            "normalized_shape": shape,
            "eps": node.get("epsilon", 1e-5),
            "affine": True,
        }
    return found
