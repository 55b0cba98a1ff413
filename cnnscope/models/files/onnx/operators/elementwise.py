"""Operators that compute each position by itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import OPERATORS, operator
from cnnscope.models.files.onnx.values import (
    Value,
    dtype_of,
    number,
    scalar_or_tensor,
    shape_of,
    tensor_of,
)

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": functional.hardswish, "IsNaN": torch.isnan,
    "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg, "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh,
    "Softplus": functional.softplus, "Softsign": functional.softsign, "Sqrt": torch.sqrt,
    "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "And": torch.logical_and, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq, "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul,
    "Or": torch.logical_or, "Pow": torch.pow, "Sub": torch.sub, "Add": torch.add,
    "Xor": torch.logical_xor,
}  # fmt: skip
_VARIADIC: dict[str, Callable[[Any, Any], Tensor]] = {
    "Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add, "Mean": torch.add,
}  # fmt: skip
_WITH_TENSORS = frozenset("And Or Xor".split())  # whose functions take no number


def _unary(node: OnnxNode, x: Value) -> Tensor:
    return _UNARY[node.op](tensor_of(x))


def binary(function: Callable[[Any, Any], Tensor], a: Value, b: Value, tensors: bool) -> Tensor:
    """A function of two values, one of which may be a number."""
    if tensors:
        return function(tensor_of(a), tensor_of(b))
    left, right = scalar_or_tensor(a), scalar_or_tensor(b)
    if isinstance(left, Tensor):
        return function(left, right)
    if not isinstance(right, Tensor):
        return function(tensor_of(a), right)
    if function in (torch.add, torch.mul):
        return function(right, left)
    return torch.rsub(right, left) if function is torch.sub else function(tensor_of(a), right)


def _binary(node: OnnxNode, a: Value, b: Value) -> Tensor:
    return binary(_BINARY[node.op], a, b, node.op in _WITH_TENSORS)


def _variadic(node: OnnxNode, *given: Value) -> Tensor:
    tensors = [tensor_of(one) for one in given]
    if node.op in ("Sum", "Mean") and len(given) > 1:
        made: Any = functools.reduce(lambda a, b: binary(torch.add, a, b, tensors=False), given)
    else:
        made = functools.reduce(_VARIADIC[node.op], tensors)
    return made / len(given) if node.op == "Mean" and len(given) > 1 else made


OPERATORS |= dict.fromkeys(_UNARY, _unary)
OPERATORS |= dict.fromkeys(_BINARY, _binary)
OPERATORS |= dict.fromkeys(_VARIADIC, _variadic)


@operator("Div")
def div(node: OnnxNode, a: Value, b: Value) -> Tensor:
    """A quotient; of integers it is cut off."""
    del node
    left, right = scalar_or_tensor(a), scalar_or_tensor(b)
    if not isinstance(left, Tensor):
        left = tensor_of(a)
    whole = not (left.is_floating_point() or left.is_complex())
    return torch.div(left, right, rounding_mode="trunc") if whole else torch.div(left, right)


@operator("Mod")
def mod(node: OnnxNode, a: Value, b: Value) -> Tensor:
    """A remainder: of the sign of the divisor, or of the dividend (`fmod`)."""
    function = torch.fmod if node.get("fmod", 0) else torch.remainder
    return function(tensor_of(a), scalar_or_tensor(b))


@operator("BitShift")
def bit_shift(node: OnnxNode, a: Value, b: Value) -> Tensor:
    """Bits moved to the left or right; torch has no kernel for unsigned ones."""
    left = node.get("direction", "LEFT") == "LEFT"
    function = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    return function(tensor_of(a), tensor_of(b))


@operator("PRelu")
def prelu(node: OnnxNode, x: Value, slope: Value) -> Tensor:
    """A slope for each channel below zero."""
    del node
    data, slopes = tensor_of(x), tensor_of(slope)
    channels = data.shape[1] if data.dim() > 1 else 1
    if slopes.numel() in (1, channels) and slopes.shape[:1].numel() in (1, slopes.numel()):
        return functional.prelu(data, slopes.reshape(-1) if slopes.dim() != 1 else slopes)
    return torch.where(data < 0, data * slopes, data)


@operator("LeakyRelu")
def leaky_relu(node: OnnxNode, x: Value) -> Tensor:
    """A fixed slope below zero."""
    return functional.leaky_relu(tensor_of(x), node.get("alpha", 0.01))


@operator("Elu Celu")
def elu(node: OnnxNode, x: Value) -> Tensor:
    """An exponential below zero."""
    function = functional.elu if node.op == "Elu" else functional.celu
    return function(tensor_of(x), node.get("alpha", 1.0))


@operator("Selu")
def selu(node: OnnxNode, x: Value) -> Tensor:
    """A scaled exponential below zero."""
    del node
    return torch.selu(tensor_of(x))


@operator("ThresholdedRelu")
def thresholded_relu(node: OnnxNode, x: Value) -> Tensor:
    """Zero up to a threshold."""
    return functional.threshold(tensor_of(x), node.get("alpha", 1.0), 0.0)


@operator("Shrink")
def shrink(node: OnnxNode, x: Value) -> Tensor:
    """Zero around zero, and what is beyond it moved towards it."""
    data, bias, lambd = tensor_of(x), node.get("bias", 0.0), node.get("lambd", 0.5)
    return functional.hardshrink(data, lambd) if not bias else functional.softshrink(data, lambd)


@operator("HardSigmoid")
def hard_sigmoid(node: OnnxNode, x: Value) -> Tensor:
    """A line between 0 and 1: torch has the one of slope 1/6."""
    alpha, beta, data = node.get("alpha", 0.2), node.get("beta", 0.5), tensor_of(x)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return functional.hardsigmoid(data)
    return torch.clamp(data * alpha + beta, 0, 1)


@operator("Gelu com.microsoft.Gelu com.microsoft.FastGelu com.microsoft.BiasGelu")
def gelu(node: OnnxNode, x: Value, bias: Value = None) -> Tensor:
    """Gaussian error linear unit."""
    data = tensor_of(x) if bias is None else tensor_of(x) + tensor_of(bias)
    fast = node.op == "FastGelu"
    return functional.gelu(data, approximate="tanh" if fast else node.get("approximate", "none"))


@operator("com.microsoft.QuickGelu Swish")
def swish(node: OnnxNode, x: Value) -> Tensor:
    """A value times its sigmoid."""
    data, alpha = tensor_of(x), node.get("alpha", 1.0 if node.op == "Swish" else 1.702)
    return functional.silu(data) if alpha == 1 else data * torch.sigmoid(data * alpha)


@operator("Clip")
def clip(node: OnnxNode, x: Value, low: Value = None, high: Value = None) -> Tensor:
    """Bounds: attributes before version 11, then inputs."""
    data = tensor_of(x)
    bounds = [node.get("min"), node.get("max")]
    for place, bound in enumerate((low, high)):
        if bound is not None:
            known = scalar_or_tensor(bound)
            bounds[place] = known.reshape(()) if isinstance(known, Tensor) else known
    below, above = bounds
    plain = not any(isinstance(bound, Tensor) or bound is None for bound in bounds)
    if plain and data.is_floating_point():
        return functional.hardtanh(data, min(below, above), above)
    if below is None and above is None:
        return data
    if any(isinstance(bound, Tensor) for bound in bounds):
        below, above = (_tensor_bound(bound, data) for bound in bounds)
    return torch.clamp(data, below, above)


def _tensor_bound(bound: Any, like: Tensor) -> Tensor | None:
    if bound is None or isinstance(bound, Tensor):
        return bound
    return torch.full((), bound, dtype=like.dtype, device=like.device)


@operator("IsInf")
def is_inf(node: OnnxNode, x: Value) -> Tensor:
    """Where a value is infinite."""
    del node
    return torch.isinf(tensor_of(x))


@operator("Cast")
def cast(node: OnnxNode, x: Value) -> Tensor:
    """Another dtype."""
    return tensor_of(x).to(dtype_of(node.get("to")))


@operator("CastLike")
def cast_like(node: OnnxNode, x: Value, like: Value) -> Tensor:
    """The dtype of another value."""
    del node
    return tensor_of(x).to(tensor_of(like).dtype)


@operator("BitCast")
def bit_cast(node: OnnxNode, x: Value) -> Tensor:
    """The same bits as another dtype."""
    return tensor_of(x).view(dtype_of(node.get("to")))


@operator("Where")
def where(node: OnnxNode, condition: Value, a: Value, b: Value) -> Tensor:
    """One of two values at each position."""
    del node
    left, right = scalar_or_tensor(a), scalar_or_tensor(b)
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        left = tensor_of(a)
    return torch.where(tensor_of(condition), left, right)


@operator("Identity OptionalGetElement com.microsoft.Identity")
def identity(node: OnnxNode, x: Value) -> Value:
    """The value itself."""
    del node
    return x


@operator("Dropout")
def dropout(node: OnnxNode, x: Value, ratio: Value = None, training: Value = None) -> Any:
    """Nothing in inference; its mask is true everywhere."""
    rate = node.get("ratio", 0.5) if ratio is None else number(ratio)
    trains = training is not None and bool(number(training))
    made = functional.dropout(tensor_of(x), rate) if trains else x
    if len(node.outputs) < 2:
        return made
    return made, torch.ones(shape_of(x), dtype=torch.bool, device="meta")
