"""Normalisations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, tensor_of


def _optional(value: Value) -> Tensor | None:
    return None if value is None else tensor_of(value)


@operator("BatchNormalization")
def batch_norm(node: OnnxNode, x: Value, w: Value, b: Value, mean: Value, var: Value) -> Any:
    """A batch norm with kept statistics, or with those of the batch (`training_mode`)."""
    data, eps = tensor_of(x), node.get("epsilon", 1e-5)
    weight, bias = tensor_of(w), tensor_of(b)
    kept = (_without_gradient(tensor_of(mean)), _without_gradient(tensor_of(var)))
    old = node.version < 14 and len(node.outputs) > 1
    if not (node.get("training_mode") or old):
        return functional.batch_norm(data, *kept, weight, bias, False, 0.0, eps)
    made = functional.batch_norm(data, None, None, weight, bias, True, 0.0, eps)
    momentum = node.get("momentum", 0.9)
    dims = [dim for dim in range(data.dim()) if dim != 1]
    found = [torch.mean(data, dims), torch.var(data, dims, correction=0)]
    running = [a * momentum + b * (1 - momentum) for a, b in zip(kept, found, strict=True)]
    return (made, *running, *found)[: len(node.outputs)]


def _without_gradient(statistic: Tensor) -> Tensor:
    """A kept statistic; exporters store it once with a bias or weight that is equal to it."""
    return statistic.detach() if statistic.requires_grad and torch.is_grad_enabled() else statistic


@operator("InstanceNormalization")
def instance_norm(node: OnnxNode, x: Value, w: Value, b: Value) -> Tensor:
    """A norm over the positions of each channel."""
    weight, bias = tensor_of(w), tensor_of(b)
    return functional.instance_norm(
        tensor_of(x), weight=weight, bias=bias, eps=node.get("epsilon", 1e-5)
    )


@operator("GroupNormalization")
def group_norm(node: OnnxNode, x: Value, w: Value, b: Value) -> Tensor:
    """A norm over the positions of groups of channels; weights of groups before version 21."""
    data, weight, bias = tensor_of(x), tensor_of(w), tensor_of(b)
    groups, eps = node.get("num_groups", 1), node.get("epsilon", 1e-5)
    if weight.shape == data.shape[1:2]:
        return functional.group_norm(data, groups, weight, bias, eps)
    per = data.shape[1] // weight.shape[0]
    shape = (-1, *(1,) * (data.dim() - 2))
    made = functional.group_norm(data, groups, None, None, eps)
    weight, bias = (one.repeat_interleave(per).view(shape) for one in (weight, bias))
    return made * weight + bias


@operator("LayerNormalization")
def layer_norm(node: OnnxNode, x: Value, w: Value, b: Value = None) -> Any:
    """A norm over the last axes."""
    data, eps = tensor_of(x), node.get("epsilon", 1e-5)
    weight, bias = tensor_of(w), _optional(b)
    shape = data.shape[_axis(node, data) :]
    fits = weight.shape == shape and (bias is None or bias.shape == shape)
    scale, shift = (weight, bias) if fits else (None, None)
    rest: list[Tensor | None] = [None, None]
    if len(node.outputs) > 1:
        made, *rest = torch.native_layer_norm(data, shape, scale, shift, eps)
    else:
        made = functional.layer_norm(data, shape, scale, shift, eps)
    if not fits:
        made = made * weight if bias is None else made * weight + bias
    return made, *rest


def _axis(node: OnnxNode, data: Tensor) -> int:
    axis = int(node.get("axis", -1))
    return axis + data.dim() if axis < 0 else axis


@operator("RMSNormalization SimplifiedLayerNormalization")
def rms_norm(node: OnnxNode, x: Value, w: Value) -> Tensor:
    """A norm over the last axes that takes no mean."""
    data, weight = tensor_of(x), tensor_of(w)
    shape = data.shape[_axis(node, data) :]
    eps = node.get("epsilon", 1e-5)
    if weight.shape == shape:
        return functional.rms_norm(data, shape, weight, eps)
    return functional.rms_norm(data, shape, None, eps) * weight


@operator("com.microsoft.SkipLayerNormalization")
def skip_layer_norm(
    node: OnnxNode, x: Value, skip: Value, w: Value, b: Value = None, added: Value = None
) -> Any:
    """A sum of two values, and a norm of it, as onnxruntime fuses them."""
    data = tensor_of(x) + tensor_of(skip)
    if added is not None:
        data = data + tensor_of(added)
    shape = data.shape[-1:]
    made = functional.layer_norm(data, shape, tensor_of(w), _optional(b), node.get("epsilon", 1e-5))
    return made, None, None, data


@operator("LpNormalization")
def lp_normalization(node: OnnxNode, x: Value) -> Tensor:
    """Divide by the norm along an axis."""
    return functional.normalize(tensor_of(x), float(node.get("p", 2)), node.get("axis", -1))


@operator("MeanVarianceNormalization")
def mean_variance(node: OnnxNode, x: Value) -> Tensor:
    """Subtract the mean, divide by the deviation."""
    data, axes = tensor_of(x), tuple(node.get("axes") or (0, 2, 3))
    spread = torch.sqrt(torch.var(data, axes, correction=0, keepdim=True))
    return (data - torch.mean(data, axes, keepdim=True)) / (spread + 1e-9)


@operator("Softmax LogSoftmax Hardmax")
def softmax(node: OnnxNode, x: Value) -> Tensor:
    """Shares along an axis; before version 13 along all from that one on."""
    data, old = tensor_of(x), node.version < 13
    axis = node.get("axis", 1 if old else -1)
    function: Any = {
        "Softmax": functional.softmax, "LogSoftmax": functional.log_softmax, "Hardmax": _hardmax
    }[node.op]  # fmt: skip
    axis = axis + data.dim() if axis < 0 else axis
    if not old or axis == data.dim() - 1:
        made: Tensor = function(data, axis)
        return made
    flat: Tensor = function(data.flatten(axis), axis)
    return flat.view(data.shape)


def _hardmax(data: Tensor, axis: int) -> Tensor:
    places = torch.argmax(data, axis, keepdim=True)
    return torch.zeros_like(data).scatter(axis, places, 1.0)
