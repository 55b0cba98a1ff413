"""Where results lie: the order of memory, and the memory, that a CPU's kernels give them.

Some kernels of meta return their result in another order of memory, after which a `reshape` copies
or does not, or in less memory. `RESULTS` has what a CPU makes of it, by operation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnscope.tracing.kernels import Attention

_MAXIMA = 2  # the mode of an embedding bag that takes the largest number


def _as_input(args: Sequence[Any], result: Tensor) -> Tensor:
    return _as(suggested_format(args[0]), result)


def _in_order(_: Sequence[Any], result: Tensor) -> Tensor:
    return _as(torch.contiguous_format, result)


def _shrunk(args: Sequence[Any], result: Tensor) -> Tensor:
    """A result that was made as large as the input, and keeps that memory if it is smaller."""
    elements = args[0].numel()
    if result.numel() >= elements:
        return result
    with torch._C._DisableTorchDispatch():
        made = torch.empty(elements, dtype=result.dtype, device=result.device)
        return made.as_strided(result.shape, result.stride())


def _convolved(args: Sequence[Any], result: Tensor) -> Tensor:
    """Channels last where the input or the weight is (`mkldnn_conv_use_channels_last`).

    In 3-D by oneDNN's kernels alone; those of PyTorch's own that transpose resize their result.
    """
    x, weight, transposed, groups = args[0], args[1], args[6], args[8]
    if x.dim() == 5 and not _by_onednn(args):
        ordered = _as(torch.contiguous_format, result)
        return _shrunk(args, ordered) if transposed and groups == 1 else ordered
    formats = [suggested_format(x), suggested_format(weight)]
    last = next((f for f in formats if f is not torch.contiguous_format), formats[0])
    return _as(last, result)


def _normed(args: Sequence[Any], results: tuple[Tensor, ...], given: int) -> tuple[Tensor, ...]:
    """A norm with its statistics: of the type of its parameters, which may be a wider one.

    Args:
        args: the input, and next the parameters, where there are any.
        results: the input normalised, and statistics.
        given: how many arguments are parameters.
    """
    types = [x.dtype for x in args[: 1 + given] if x is not None]
    dtype = next((t for t in types if t is not types[0]), types[0])
    made, *statistics = (_as_input(args, tensor) for tensor in results)
    with torch._C._DisableTorchDispatch():
        return made, *(torch.empty_like(t, dtype=dtype) for t in statistics)


def _asked(args: Sequence[Any], results: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """The gradients that are asked for, by the last argument."""
    return tuple(t if asked else None for t, asked in zip(results, args[-1], strict=True))


def _reduced(args: Sequence[Any], result: Tensor) -> Tensor:
    """A loss in the memory of what was reduced, one number for each element."""
    size = torch.broadcast_shapes(args[0].shape, args[1].shape)
    with torch._C._DisableTorchDispatch():
        return torch.empty(size.numel(), dtype=result.dtype, device=result.device).as_strided(
            result.shape, result.stride()
        )


def _without_memory(_: Sequence[Any], result: Tensor) -> Tensor:
    with torch._C._DisableTorchDispatch():
        return torch.empty(0, dtype=result.dtype, device=result.device).as_strided(
            result.shape, (0,) * result.dim()
        )


def _bags(args: Sequence[Any], results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Sums of embeddings, and what the kernel notes of bags (`_embedding_bag_cpu_impl`)."""
    weight, indices, offsets, _, mode, _, factors, last, padding = (*args, *(None,) * 9)[:9]
    padded = padding is not None and padding >= 0
    single = weight.dtype in (torch.float32, torch.float16, torch.bfloat16)
    ordered = weight.stride(1) == 1 and (factors is None or factors.stride(0) == 1)
    plain = not mode and single and ordered and not padded  # a sum that needs no map of the bags
    bags = offsets.shape[0] - bool(last)
    maxima = bags * weight.shape[1] if mode == _MAXIMA else bags
    sizes = (0 if plain else indices.shape[0] + 1, offsets.shape[0], maxima)
    with torch._C._DisableTorchDispatch():
        noted = [torch.empty(n, dtype=offsets.dtype, device=weight.device) for n in sizes]
    return results[0], *noted


def _by_onednn(args: Sequence[Any]) -> bool:
    """Return True if oneDNN runs a convolution (`ConvParams::use_mkldnn`), with several threads."""
    x, weight, _, stride, _, _, transposed, output_padding, groups = args[:9]
    if transposed:
        padded = any(extra >= step for extra, step in zip(output_padding, stride, strict=False))
        if padded:
            return False
    if x.dtype in (torch.bfloat16, torch.float16):
        return True
    wide = weight.shape[-1] > 3 and weight.shape[-2] > 3
    large = x.shape[0] > 1 or math.prod(x.shape[:4]) > 20480
    return x.dtype is torch.float32 and (groups > 1 or wide or large)


def _attended(args: Sequence[Any], result: Tensor) -> Tensor:
    """An attention that was not decomposed, as under `torch.inference_mode` inside a forward."""
    query, key, value, mask, dropout_p, is_causal, scale, enable_gqa = args
    options = float(dropout_p or 0), bool(is_causal), scale, bool(enable_gqa)
    call = Attention(query, key, value, mask, *options)
    return call.result() if call.fused else result


# What a CPU makes of the results of an operation, by its name without the overload
RESULTS: Mapping[str, Callable[[Sequence[Any], Any], Any]] = {
    "aten.convolution": _convolved,
    "aten.col2im": _shrunk,
    "aten.im2col": _shrunk,
    "aten._embedding_bag": _bags,
    "aten._embedding_bag_forward_only": _bags,
    "aten.native_batch_norm": functools.partial(_normed, given=4),
    "aten.native_group_norm": functools.partial(_normed, given=2),
    "aten.native_batch_norm_backward": _asked,
    **dict.fromkeys(("aten.mse_loss", "aten.smooth_l1_loss", "aten.soft_margin_loss"), _reduced),
    "aten.binary_cross_entropy": _reduced,
    "aten._efficientzerotensor": _without_memory,
    "aten.reflection_pad2d": _as_input,
    "aten.reflection_pad3d": _as_input,
    "aten.replication_pad2d": _as_input,
    "aten.replication_pad3d": _as_input,
    "aten.max_unpool2d": _as_input,
    "aten.channel_shuffle": _as_input,
    "aten.pixel_shuffle": _as_input,
    "aten.pixel_unshuffle": _as_input,
    "aten.roll": _as_input,
    "aten.rrelu_with_noise": _in_order,
    "aten.log_sigmoid_forward": lambda args, results: tuple(_in_order(args, t) for t in results),
    "aten.scaled_dot_product_attention": _attended,
}


def _as(wanted: torch.memory_format, tensor: Tensor) -> Tensor:
    rank = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(wanted, tensor.dim())
    if rank != tensor.dim() or tensor.is_contiguous(memory_format=wanted):
        return tensor
    with torch._C._DisableTorchDispatch():
        return torch.empty_like(tensor, memory_format=wanted)


def suggested_format(tensor: Tensor) -> torch.memory_format:
    """Channels last where the strides say so, else in order (`suggest_memory_format`)."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    shape, strides = tensor.shape, tensor.stride()
    if tensor.dim() not in formats:
        return torch.contiguous_format
    least = 0
    for axis in (1, *range(tensor.dim() - 1, 1, -1), 0):
        alone = axis == 0 and least == strides[1]  # N x 1 x 1 x 1, which lies either way
        if shape[axis] == 0 or strides[axis] < least or alone:
            return torch.contiguous_format
        least = strides[axis] * max(shape[axis], 1)
    return formats[tensor.dim()]
