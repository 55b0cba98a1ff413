"""Quantised operators: what they compute is that of the same operator on numbers.

A quantised convolution is the convolution of values that were integers: its operands are
dequantised before it, and its result is quantised again, by the operations that torch's own
quantised programs have (`torch.ops.quantized_decomposed`). How many multiply-accumulates are of
integers is told by what their operands were.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.operators.windows import convolve
from cnnscope.models.files.onnx.values import (
    BYTES,
    INT2,
    INT4,
    Value,
    array_of,
    dtype_of,
    shape_of,
    tensor_of,
)

_LEAST = 2.0**-23  # a scale that is no division by zero


def _operations() -> Any:
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers them
    return torch.ops.quantized_decomposed


def _tensor(made: Any) -> Tensor:
    """What an operation that is not annotated has made."""
    assert isinstance(made, Tensor)  # noqa: S101
    return made


def _range(dtype: torch.dtype) -> tuple[int, int]:
    if dtype.is_floating_point:
        return 0, 0
    if dtype in BYTES:
        bits = int(str(dtype)[-1])
        least = -(2 ** (bits - 1)) if dtype in (INT4, INT2) else 0
        return least, least + 2**bits - 1
    found = torch.iinfo(dtype)
    return found.min, found.max


def _per_tensor(scale: Value, zero: Value) -> tuple[float, int] | None:
    """One known scale and zero point for a whole tensor."""
    known = array_of(scale)
    if known is None or known.size != 1:
        return None
    zeros = None if zero is None else array_of(zero)
    if zero is not None and (zeros is None or zeros.size != 1):
        return None
    return float(known.reshape(-1)[0]), 0 if zeros is None else int(zeros.reshape(-1)[0])


def _axis(node: OnnxNode, scale: Value, rank: int, default: int = 1) -> int | None:
    """The axis that has a scale for each position; None for blocks and for whole tensors."""
    if len(shape_of(scale)) != 1 or shape_of(scale) == (1,):
        return None
    return int(node.get("axis", default)) % max(rank, 1)


def _whole_bytes(data: Tensor) -> Tensor:
    """The same numbers in a type that torch computes with."""
    return data.to(BYTES[data.dtype]) if data.dtype in BYTES else data


def dequantise(x: Value, scale: Value, zero: Value = None, axis: int | None = None) -> Tensor:
    """Numbers of integers, (x - zero point) * scale, for a tensor or along an axis."""
    data = _whole_bytes(tensor_of(x))
    if data.dtype.is_floating_point:
        return data.to(torch.float32) * tensor_of(scale)
    single, low_high = _per_tensor(scale, zero), _range(data.dtype)
    if single is not None and data.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        return _tensor(_operations().dequantize_per_tensor(data, *single, *low_high, data.dtype))
    if axis is not None and data.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        zeros = None if zero is None else _whole_bytes(tensor_of(zero))
        given = (tensor_of(scale), zeros, axis, *low_high, data.dtype)
        return _tensor(_operations().dequantize_per_channel(data, *given))
    return _by_blocks(data, tensor_of(scale), None if zero is None else tensor_of(zero))


def _by_blocks(data: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """A scale for each block of an axis, or one that is computed."""
    for axis in range(data.dim()) if scale.dim() == data.dim() else ():
        if scale.shape[axis] not in (1, data.shape[axis]):
            block = math.ceil(data.shape[axis] / scale.shape[axis])
            scale = scale.repeat_interleave(block, axis).narrow(axis, 0, data.shape[axis])
            if zero is not None:
                zero = zero.repeat_interleave(block, axis).narrow(axis, 0, data.shape[axis])
    number = data.to(scale.dtype)
    return (number if zero is None else number - zero.to(scale.dtype)) * scale


def quantise(
    x: Value, scale: Value, zero: Value, dtype: torch.dtype, axis: int | None = None
) -> Tensor:
    """Integers of numbers, x / scale + zero point, held within what the dtype can have."""
    data = tensor_of(x)
    if dtype.is_floating_point:
        return (data / tensor_of(scale)).to(dtype)
    if dtype in BYTES:
        return _clamped(data, scale, zero, dtype).to(dtype)
    single = _per_tensor(scale, zero)
    if data.dtype is torch.float32 and single is not None:
        return _tensor(_operations().quantize_per_tensor(data, *single, *_range(dtype), dtype))
    if data.dtype is torch.float32 and axis is not None and zero is not None:
        given = (tensor_of(scale), tensor_of(zero), axis, *_range(dtype), dtype)
        return _tensor(_operations().quantize_per_channel(data, *given))
    return _clamped(data, scale, zero, dtype).to(dtype)


def _clamped(data: Tensor, scale: Value, zero: Value, dtype: torch.dtype) -> Tensor:
    """Whole numbers within what a type can have."""
    spread = data / tensor_of(scale)
    moved = spread if zero is None else spread + tensor_of(zero).to(spread.dtype)
    return torch.clamp(torch.round(moved), *_range(dtype))


@operator("DequantizeLinear com.microsoft.DequantizeLinear")
def dequantize_linear(node: OnnxNode, x: Value, scale: Value, zero: Value = None) -> Tensor:
    """Numbers of integers."""
    made = dequantise(x, scale, zero, _axis(node, scale, len(shape_of(x))))
    wanted = node.get("output_dtype")
    return made.to(dtype_of(wanted)) if wanted else made


@operator("QuantizeLinear com.microsoft.QuantizeLinear")
def quantize_linear(node: OnnxNode, x: Value, scale: Value, zero: Value = None) -> Tensor:
    """Integers of numbers."""
    wanted = node.get("output_dtype")
    plain = dtype_of(wanted) if wanted else torch.uint8
    dtype = plain if zero is None else tensor_of(zero).dtype
    return quantise(x, scale, zero, dtype, _axis(node, scale, len(shape_of(x))))


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: OnnxNode, x: Value) -> tuple[Tensor, Tensor, Tensor]:
    """Integers of numbers, by their own range."""
    del node
    data = tensor_of(x)
    scale, zero = _operations().choose_qparams(data, 0, 255, _LEAST, torch.uint8)
    scale, zero = scale.reshape(()).to(torch.float32), zero.reshape(()).to(torch.uint8)
    return quantise(data, scale, zero, torch.uint8), scale, zero


@operator("QLinearConv")
def qlinear_conv(node: OnnxNode, *given: Value) -> Tensor:
    """x, scale, zero point, w, scale, zero point, scale, zero point of the result, bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = given
    data = dequantise(x, x_scale, x_zero)
    weight = dequantise(w, w_scale, w_zero, _axis(node._replace(attributes={}), w_scale, 4, 0))
    added = tensor_of(bias[0]).to(torch.float32) if bias and bias[0] is not None else None
    made = convolve(node, data, weight, added)
    return quantise(made, y_scale, y_zero, tensor_of(y_zero).dtype)


@operator("QLinearMatMul")
def qlinear_matmul(node: OnnxNode, *given: Value) -> Tensor:
    """a, scale, zero point, b, scale, zero point, scale, zero point of the result."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    left = dequantise(a, a_scale, a_zero)
    rank = len(shape_of(b))
    axis = _axis(node._replace(attributes={}), b_scale, rank, rank - 1)
    made = torch.matmul(left, dequantise(b, b_scale, b_zero, axis))
    return quantise(made, y_scale, y_zero, tensor_of(y_zero).dtype)


@operator("com.microsoft.QGemm")
def qgemm(node: OnnxNode, *given: Value) -> Tensor:
    """A product of two quantised matrices and what is added to it."""
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = given
    c, y_scale, y_zero = (*rest, None, None, None)[:3]
    axis = _axis(node._replace(attributes={}), b_scale, 2, 0 if node.get("transB") else 1)
    left, right = dequantise(a, a_scale, a_zero), dequantise(b, b_scale, b_zero, axis)
    left = left.t() if node.get("transA") else left
    weight = right if node.get("transB") else right.t()
    bias = None if c is None else tensor_of(c).to(torch.float32)
    made = torch.nn.functional.linear(left, weight, bias)
    return made if y_scale is None else quantise(made, y_scale, y_zero, tensor_of(y_zero).dtype)


@operator("com.microsoft.QLinearAdd com.microsoft.QLinearMul")
def qlinear_binary(node: OnnxNode, *given: Value) -> Tensor:
    """A sum or product of two quantised values."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (*given, None)[:8]
    left, right = dequantise(a, a_scale, a_zero), dequantise(b, b_scale, b_zero)
    made = left + right if node.op == "QLinearAdd" else left * right
    return quantise(made, y_scale, y_zero, tensor_of(a).dtype)


@operator("com.microsoft.QLinearSigmoid com.microsoft.QLinearLeakyRelu")
def qlinear_unary(node: OnnxNode, *given: Value) -> Tensor:
    """A function of each element of a quantised value."""
    x, x_scale, x_zero, y_scale, y_zero = (*given, None)[:5]
    data = dequantise(x, x_scale, x_zero)
    sigmoid = node.op == "QLinearSigmoid"
    made = torch.sigmoid(data) if sigmoid else torch.nn.functional.leaky_relu(data)
    return quantise(made, y_scale, y_zero, tensor_of(x).dtype)


@operator("com.microsoft.QLinearGlobalAveragePool")
def qlinear_global_average_pool(node: OnnxNode, *given: Value) -> Tensor:
    """The mean of each quantised map."""
    del node
    x, x_scale, x_zero, y_scale, y_zero = (*given, None)[:5]
    data = dequantise(x, x_scale, x_zero)
    made = torch.mean(data, tuple(range(2, data.dim())), keepdim=True)
    return quantise(made, y_scale, y_zero, tensor_of(x).dtype)


@operator("com.microsoft.QLinearConcat")
def qlinear_concat(node: OnnxNode, y_scale: Value, y_zero: Value, *given: Value) -> Tensor:
    """Quantised values side by side: (value, scale, zero point) for each."""
    groups = [given[i : i + 3] for i in range(0, len(given), 3)]
    made = torch.cat([dequantise(*group) for group in groups], int(node.get("axis", 1)))
    return quantise(made, y_scale, y_zero, tensor_of(y_zero).dtype)


def _whole(x: Value, zero: Value) -> Tensor:
    """Integers of 32 bits, less the zero point."""
    data = tensor_of(x).to(torch.int32)
    if zero is None:
        return data
    less = tensor_of(zero).to(torch.int32)
    if less.dim() == 1 and less.numel() > 1:
        less = less.reshape([-1] + [1] * (data.dim() - 1))
    return data - less


@operator("ConvInteger")
def conv_integer(
    node: OnnxNode, x: Value, w: Value, x_zero: Value = None, w_zero: Value = None
) -> Tensor:
    """A convolution of integers."""
    return convolve(node, _whole(x, x_zero), _whole(w, w_zero), None)


@operator("MatMulInteger")
def matmul_integer(
    node: OnnxNode, a: Value, b: Value, a_zero: Value = None, b_zero: Value = None
) -> Tensor:
    """A product of matrices of integers."""
    del node
    right = tensor_of(b).to(torch.int32)
    if b_zero is not None:
        right = right - tensor_of(b_zero).to(torch.int32)
    return torch.matmul(_whole(a, a_zero), right)
