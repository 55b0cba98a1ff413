"""Layers of `torch.nn` that nodes are, with their hyper-parameters."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from torch import nn

from cnnscope.models.files import rebuilt
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.values import Value, array_of
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
_PRODUCTS = frozenset("Gemm QGemm MatMul MatMulInteger QLinearMatMul".split())
_POOLS = {"MaxPool": "MaxPool", "AveragePool": "AvgPool"}


_ACTIVATIONS: dict[tuple[str, ...], Any] = {  # of one value, as exporters write them in parts
    ("Sigmoid", "Mul"): nn.SiLU,
    ("HardSigmoid", "Mul"): nn.Hardswish,
    ("Softplus", "Tanh", "Mul"): nn.Mish,
    ("Div", "Erf", "Add", "Mul", "Mul"): nn.GELU,
}


def activation_of(nodes: Sequence[OnnxNode], constants: Container[str]) -> str:
    """The class of the activation that the nodes of a module are, called once or more; or ""."""
    kinds = tuple(node.kind for node in nodes)
    for parts, found in _ACTIVATIONS.items():
        calls = [nodes[i : i + len(parts)] for i in range(0, len(nodes), len(parts))]
        if kinds == parts * len(calls) and all(_is_of_one(call, constants) for call in calls):
            return f"{found.__module__}.{found.__name__}"
    return ""


def _is_of_one(nodes: Sequence[OnnxNode], constants: Container[str]) -> bool:
    """Return True if nodes compute something of one value, which they read twice."""
    made = {name for node in nodes for name in node.outputs}
    read = [name for node in nodes for name in node.inputs]
    outside = [name for name in read if name not in made and name not in constants]
    return len(outside) == 2 and outside[0] == outside[1]


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


def describe(
    part: Part, node: OnnxNode, shape: tuple[int, ...] | None, held: Mapping[str, Value]
) -> None:
    """Give a layer the hyper-parameters that its node tells.

    Args:
        part: the module.
        node: what it computes.
        shape: of its weight, None where it has none.
        held: values of the file, by name.
    """
    import inspect

    if not type(part).__module__.startswith(rebuilt.LAYERS):
        return
    wanted = inspect.signature(type(part).__init__).parameters
    resizes = node.op in ("Resize", "Upsample")
    rebuilt.note(part, wanted, _of_resize(node, held) if resizes else _told(node, shape))
    if "in_channels" in wanted or "in_features" in wanted:
        part.register_parameter("bias", part._parameters.get("bias"))


def _told(node: OnnxNode, shape: tuple[int, ...] | None) -> Mapping[str, Any]:
    """What a node says of its layer, under the names that torch has for it."""
    if "Conv" in node.op and shape is not None and len(shape) > 2:
        return _of_convolution(node, shape)
    if node.op in _PRODUCTS and shape is not None and len(shape) == 2:
        out_first = node.op in ("Gemm", "QGemm") and node.get("transB")
        one, other = shape if out_first else (shape[1], shape[0])
        return {"out_features": one, "in_features": other}
    if node.op in _POOLS:
        axes = len(node.get("kernel_shape") or ())
        return {
            "kernel_size": tuple(node.get("kernel_shape") or ()),
            "stride": tuple(node.get("strides") or (1,) * axes),
            "padding": tuple(node.get("pads") or (0,) * axes)[:axes],
            "dilation": tuple(node.get("dilations") or (1,) * axes),
            "ceil_mode": bool(node.get("ceil_mode")),
            "return_indices": len(node.outputs) > 1,
            "count_include_pad": bool(node.get("count_include_pad")),
        }
    if node.op in ("GlobalAveragePool", "ReduceMean"):
        return {"output_size": 1}
    found: dict[str, Any] = {"eps": node.get("epsilon", 1e-5)}
    found |= {"momentum": round(1 - node.get("momentum", 0.9), 6)}  # of what is new; ONNX: of old
    if shape:
        found |= dict.fromkeys(("num_features", "num_channels"), shape[0])
        found |= {"normalized_shape": shape, "affine": True, "elementwise_affine": True}
        found |= {"track_running_stats": node.op == "BatchNormalization"}
    found |= {"num_groups": node.get("num_groups"), "dim": node.get("axis")}
    found |= {"negative_slope": node.get("alpha"), "approximate": node.get("approximate")}
    return {name: value for name, value in found.items() if value is not None}


def _of_resize(node: OnnxNode, held: Mapping[str, Value]) -> Mapping[str, Any]:
    """A resize by numbers that the file holds, with one factor for all axes if they are equal."""
    known = [array_of(held.get(name)) for name in node.inputs]
    scales, sizes = (*(known if node.version > 10 else [None, *known]), None, None, None)[2:4]
    given = scales if scales is not None and scales.size else sizes
    if given is None or given.size < 3:
        return {}
    numbers = given.reshape(-1)[2:].tolist()
    same = numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
    smooth = {1: "linear", 2: "bilinear", 3: "trilinear"}.get(len(numbers), "linear")
    mode = {"linear": smooth, "cubic": "bicubic"}.get(node.get("mode", "nearest"), "nearest")
    where = node.get("coordinate_transformation_mode")
    found: dict[str, Any] = {"scale_factor" if given is scales else "size": same, "mode": mode}
    return found | ({"align_corners": True} if where == "align_corners" else {})


def _of_convolution(node: OnnxNode, shape: tuple[int, ...]) -> Mapping[str, Any]:
    axes, groups = len(shape) - 2, node.get("group", 1)
    pads = tuple(node.get("pads") or (0,) * 2 * axes)
    wide, transposed = shape[1] * groups, node.op == "ConvTranspose"
    same = node.get("auto_pad", "NOTSET").startswith("SAME")
    return {
        "in_channels": shape[0] if transposed else wide,
        "out_channels": wide if transposed else shape[0],
        "kernel_size": shape[2:],
        "stride": tuple(node.get("strides") or (1,) * axes),
        "padding": "same" if same else pads[:axes] if pads[:axes] == pads[axes:] else pads,
        "dilation": tuple(node.get("dilations") or (1,) * axes),
        "groups": groups,
        "output_padding": tuple(node.get("output_padding") or (0,) * axes),
        "padding_mode": "zeros",
    }
