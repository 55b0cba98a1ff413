"""Results of operations that torch computes on meta in many steps, in Python: made at once.

A norm or an activation takes up to some milliseconds on meta, a resampling up to 70, a convolution
0.04. What is made here has the sizes, dtype and strides that torch's own kernels give it; in doubt
it is left to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnscope.tracing.results import suggested_format

_FLOATS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
_OWN_STATISTICS = frozenset((torch.float32, torch.float64))  # others have those of float32
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

Made = Tensor | tuple[Tensor | None, ...] | None  # None where it is left to torch


def _plain(tensor: Any) -> bool:
    known = type(tensor) is Tensor or type(tensor) is nn.Parameter
    return known and tensor.is_meta and tensor.dtype in _FLOATS and 0 not in tensor.shape


def _empty(like: Tensor, *shape: int) -> Tensor:
    """An ordered tensor of another size."""
    with torch._C._DisableTorchDispatch():
        return torch.empty(shape, dtype=like.dtype, device="meta")


# -------------------------------------------------------------------------- element by element


def _order(tensor: Tensor) -> torch.memory_format | None:
    """The order of a result of the same size, as `TensorIteratorBase::fast_set_up` has it.

    None where that is in doubt: gaps, shared memory, axes of one element that lie anywhere.
    """
    if tensor.stride() == _strides(tensor.shape):
        return torch.contiguous_format
    if 1 in tensor.shape:
        return None
    last = _LAST.get(tensor.dim())
    if last is not None and tensor.is_contiguous(memory_format=last):
        return last
    dense = torch.ops.aten.is_non_overlapping_and_dense.default
    with torch._C._DisableTorchDispatch():
        return torch.preserve_format if dense(tensor) else None


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a tensor in order."""
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def _alike(data: Tensor) -> Tensor | None:
    order = _order(data)
    if order is None:
        return None
    with torch._C._DisableTorchDispatch():
        return torch.empty_like(data, memory_format=order, requires_grad=False)


def _each(data: Tensor, *rest: Any) -> Tensor | None:
    """A function of each element, with numbers as its other arguments."""
    numbers = all(value is None or type(value) in (int, float, bool) for value in rest)
    return _alike(data) if numbers and _plain(data) else None


def _each_in_place(data: Tensor, *rest: Any) -> Tensor | None:
    """The same, written over its input."""
    numbers = all(value is None or type(value) in (int, float, bool) for value in rest)
    return data if numbers and _plain(data) and _order(data) is not None else None


def _clamped(data: Tensor, least: Any = None, most: Any = None, *_: Any) -> Tensor | None:
    """Each element between numbers, of which there has to be one."""
    return None if least is None and most is None else _each(data, least, most)


def _gelu(data: Tensor, approximate: str | None, *_: Any) -> Tensor | None:
    return _each(data) if approximate in {None, "none", "tanh"} else None


def _both(data: Tensor, other: Any, *rest: Any) -> Tensor | None:
    """A function of two tensors of one size, dtype and order, or of a tensor and a number."""
    if not isinstance(other, Tensor):
        return _each(data, other, *rest)
    alike = _plain(data) and _plain(other) and data.dtype is other.dtype
    if not alike or data.shape != other.shape:
        return None
    order = _order(data)
    if order is not torch.contiguous_format and data.stride() != other.stride():
        return None
    return _each(data, *rest) if order is _order(other) else None


# ------------------------------------------------------------------------------ norms, products


def _batch_norm(x: Tensor, *args: Any) -> Made:
    """N x C x ... normalised, and mean and deviation of each channel."""
    *parameters, training = args[:5]
    if not _of_channels(x, *parameters) or not (training or None not in parameters[2:]):
        return None
    return _suggested(x), _empty(x, x.shape[1]), _empty(x, x.shape[1])


def _batch_norm_gradients(gradient: Tensor, x: Tensor, *args: Any) -> Made:
    """Gradients of the input, the weight and the bias."""
    weight, mean, variance, *saved, training = args[:6]
    needed = saved if training else [mean, variance]
    known = gradient.is_meta and gradient.shape == x.shape and None not in needed
    if not known or not _of_channels(x, weight, mean, variance):
        return None
    like = x if weight is None else weight
    return _suggested(x), _empty(like, x.shape[1]), _empty(like, x.shape[1])


def _of_channels(x: Tensor, *parameters: Tensor | None) -> bool:
    """Return True for a batch without data, and parameters that have a number for each channel."""
    given = [one for one in parameters if one is not None]
    return _plain(x) and x.dim() > 1 and all(p.is_meta and p.shape == x.shape[1:2] for p in given)


def _suggested(x: Tensor) -> Tensor:
    order = suggested_format(x)
    with torch._C._DisableTorchDispatch():
        return torch.empty(x.shape, dtype=x.dtype, device="meta", memory_format=order)


def _layer_norm(x: Tensor, sizes: Sequence[int], weight: Any, bias: Any, *_: Any) -> Made:
    """What is normalised, in order, and two statistics of each position."""
    if not _of_sizes(x, sizes, weight, bias):
        return None
    kept = (*x.shape[: -len(sizes)], *(1 for _ in sizes))
    return _empty(x, *x.shape), _empty(x, *kept), _empty(x, *kept)


def _layer_norm_gradients(gradient: Tensor, x: Tensor, sizes: Sequence[int], *args: Any) -> Made:
    """Gradients of the input, the weight and the bias, those that are asked for."""
    *_, weight, bias, asked = args
    known = gradient.is_meta and gradient.shape == x.shape
    known = known and gradient.is_contiguous() and x.is_contiguous()
    if not known or not _of_sizes(x, sizes, weight, bias):
        return None
    own = [_empty(x, *sizes) if one is not None else None for one in (weight, bias)]
    made = (_empty(x, *x.shape), *own)
    return tuple(one if wanted else None for one, wanted in zip(made, asked, strict=True))


def _of_sizes(x: Tensor, sizes: Sequence[int], *parameters: Tensor | None) -> bool:
    """Return True for an input without data, and parameters of its type and last sizes."""
    return (
        _plain(x)
        and x.dtype in _OWN_STATISTICS
        and 0 < len(sizes) < x.dim()
        and tuple(x.shape[-len(sizes) :]) == tuple(sizes)
        and _of_size(parameters, x.dtype, *sizes)
    )


def _group_norm(data: Tensor, weight: Any, bias: Any, *rest: Any) -> Made:
    """N x C x ... normalised, and two statistics of each group of a sample."""
    n, channels, inner, groups = rest[:4]
    if not _plain(data) or data.dtype not in _OWN_STATISTICS or data.dim() < 2:
        return None
    sizes = tuple(data.shape[:2]) == (n, channels) and data.numel() == n * channels * inner
    if not sizes or groups < 1 or channels % groups:
        return None
    made = _in_order(data) if _of_size((weight, bias), data.dtype, channels) else None
    return None if made is None else (made, _empty(data, n, groups), _empty(data, n, groups))


def _of_size(parameters: Sequence[Any], dtype: torch.dtype, *shape: int) -> bool:
    given = [one for one in parameters if one is not None]
    return all(_plain(p) and p.dtype is dtype and tuple(p.shape) == shape for p in given)


def _in_order(data: Tensor) -> Tensor | None:
    """A tensor of the same size, where its order is beyond doubt."""
    order = _order(data)
    return _alike(data) if order in {torch.contiguous_format, *_LAST.values()} else None


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *_: Any) -> Tensor | None:
    """N + M x K times K x N."""
    if not all(_plain(t) and t.dtype is left.dtype for t in (bias, left, right)):
        return None
    if (bias.dim(), left.dim(), right.dim()) != (1, 2, 2) or left.shape[1] != right.shape[0]:
        return None
    return _empty(left, left.shape[0], right.shape[1]) if len(bias) == right.shape[1] else None


# ------------------------------------------------------------------------------------ resampling


def _resized(data: Tensor, output_size: Sequence[int], *_: Any) -> Tensor | None:
    """N x C x the output's sizes, in the input's order of memory."""
    if not _plain(data) or len(output_size) != data.dim() - 2:
        return None
    wanted, order = (*data.shape[:2], *output_size), suggested_format(data)
    with torch._C._DisableTorchDispatch():
        return torch.empty(wanted, dtype=data.dtype, device="meta", memory_format=order)


def _sampled(data: Tensor, grid: Tensor, *_: Any) -> Tensor | None:
    """N x C x the grid's positions, in order."""
    alike = _plain(grid) and grid.dtype == data.dtype and grid.shape[-1] == grid.dim() - 2
    if not _plain(data) or not alike or data.dim() != grid.dim():
        return None
    return _empty(data, *data.shape[:2], *grid.shape[1:-1])


_OF_EACH = (
    "relu", "silu", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "mish",
    "softplus", "sigmoid", "tanh", "exp", "rsqrt", "sqrt",
)  # fmt: skip
_OVER_IT = ("hardswish_", "hardsigmoid_", "hardtanh_", "leaky_relu_", "elu_", "silu_", "mish_")

# By name with the overload: of its arguments in order, None for those that are left out.
AT_ONCE: Mapping[str, Callable[..., Made]] = {
    **dict.fromkeys((f"aten.{name}.default" for name in _OF_EACH), _each),
    **dict.fromkeys((f"aten.{name}.default" for name in _OVER_IT), _each_in_place),
    **dict.fromkeys((f"aten.{name}.Tensor" for name in ("add", "sub", "mul", "div")), _both),
    "aten.clamp.default": _clamped,
    "aten.gelu.default": _gelu,
    "aten.pow.Tensor_Scalar": _each,
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_batch_norm_backward.default": _batch_norm_gradients,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_gradients,
    "aten.native_group_norm.default": _group_norm,
    "aten.addmm.default": _addmm,
    "aten.upsample_linear1d.default": _resized,
    "aten.upsample_bilinear2d.default": _resized,
    "aten.upsample_trilinear3d.default": _resized,
    "aten.upsample_bicubic2d.default": _resized,
    "aten.grid_sampler_2d.default": _sampled,
}


def made_at_once(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Made:
    """Make the result of an operation on meta.

    Args:
        func: the operation, for which a dispatch mode was called.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Returns:
        The result; None where torch has to run the operation, also because another dispatch mode
        waits to see it.
    """
    make, names = _maker(func)
    if make is None or torch._C._len_torch_dispatch_stack():
        return None
    return make(*args, *(kwargs.get(name) for name in names[len(args) :]))


@functools.cache
def _maker(func: Any) -> tuple[Callable[..., Made] | None, tuple[str, ...]]:
    make = AT_ONCE.get(str(func))
    return make, tuple(a.name for a in func._schema.arguments) if make else ()
