"""Operators with a window that slides: convolutions and pools."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, ints, shape_of, tensor_of

_CONVOLUTIONS: Any = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED: Any = (
    functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d
)  # fmt: skip
_MAX_POOLS: Any = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_AVERAGE_POOLS: Any = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_MAX_TAPS = 1024  # of a pool that is computed tap by tap


class Window(NamedTuple):
    """A window along each axis: its size, steps, and what is added before and after."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def even(self) -> bool:
        """True if as much is added before as after."""
        return self.before == self.after and min(self.before, default=0) >= 0

    @property
    def sides(self) -> list[int]:
        """What is added, as `functional.pad` takes it: the last axis first."""
        pairs = zip(reversed(self.before), reversed(self.after), strict=True)
        return [side for pair in pairs for side in pair]


def window_of(node: OnnxNode, data: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a node on a map of these sizes.

    Raises:
        RequestError: its attributes do not have as many numbers as the map has axes.
    """
    axes = len(kernel)
    stride = tuple(node.get("strides") or (1,) * axes)
    dilation = tuple(node.get("dilations") or (1,) * axes)
    pads = tuple(node.get("pads") or (0,) * 2 * axes)
    if not (len(data) == len(stride) == len(dilation) == axes and len(pads) == 2 * axes):
        raise RequestError(
            f"{node}: its kernel, strides, dilations and pads are not those of {len(data)} axes"
        )
    if min((*kernel, *stride, *dilation), default=1) < 1:
        raise RequestError(f"{node}: a kernel, stride or dilation below 1")
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("NOTSET", ""):
        return Window(tuple(kernel), stride, dilation, pads[:axes], pads[axes:])
    before, after = [], []
    for n, k, s, d in zip(data, kernel, stride, dilation, strict=True):
        needed = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = needed // 2, needed - needed // 2
        if automatic == "VALID":
            small = large = 0
        before.append(large if automatic == "SAME_LOWER" else small)
        after.append(small if automatic == "SAME_LOWER" else large)
    return Window(tuple(kernel), stride, dilation, tuple(before), tuple(after))


def convolve(
    node: OnnxNode, data: Tensor, weight: Tensor, bias: Tensor | None, fill: float = 0.0
) -> Tensor:
    """A convolution of 1 to 3 axes with the attributes of a node."""
    axes = weight.dim() - 2
    _require_axes(node, axes, data)
    kernel = tuple(weight.shape[2:])
    given = node.get("kernel_shape")
    if given is not None and tuple(given) != kernel:
        raise RequestError(f"{node}: its kernel is {given}, and its weight has {kernel}")
    window = window_of(node, data.shape[2:], kernel)
    padding: Sequence[int] = window.before
    if not window.even:
        data, padding = functional.pad(data, window.sides, value=fill), (0,) * axes
    made: Tensor = _CONVOLUTIONS[axes - 1](
        data, weight, bias, window.stride, padding, window.dilation, node.get("group", 1)
    )
    return made


def _require_axes(node: OnnxNode, axes: int, data: Tensor) -> None:
    if not 1 <= axes <= 3 or data.dim() != axes + 2:
        raise RequestError(f"{node}: a window along {axes} axes of a map of {data.dim() - 2}")


@operator("Conv com.microsoft.FusedConv")
def conv(node: OnnxNode, x: Value, w: Value, b: Value = None, z: Value = None) -> Tensor:
    """A convolution; onnxruntime's fused one adds a value and has an activation."""
    made = convolve(node, tensor_of(x), tensor_of(w), None if b is None else tensor_of(b))
    if z is not None:
        made = made + tensor_of(z)
    return _activated(node, made)


def _activated(node: OnnxNode, made: Tensor) -> Tensor:
    functions: dict[str, Any] = {
        "": lambda x: x, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh,
        "LeakyRelu": functional.leaky_relu, "Clip": functional.relu6,
        "HardSigmoid": functional.hardsigmoid,
    }  # fmt: skip
    activated: Tensor = functions[node.get("activation", "")](made)
    return activated


@operator("ConvTranspose")
def conv_transpose(node: OnnxNode, x: Value, w: Value, b: Value = None) -> Tensor:
    """A transposed convolution; padding is what its result loses at each side."""
    data, weight = tensor_of(x), tensor_of(w)
    axes = weight.dim() - 2
    _require_axes(node, axes, data)
    window, extra = _transposed_window(node, data.shape[2:], tuple(weight.shape[2:]))
    crop = (*window.before, *window.after)
    function = _TRANSPOSED[axes - 1]
    bias = None if b is None else tensor_of(b)
    rest = (node.get("group", 1), window.dilation)
    fits = all(e < max(s, d) for e, s, d in zip(extra, window.stride, window.dilation, strict=True))
    if window.even and fits:
        made: Tensor = function(data, weight, bias, window.stride, window.before, extra, *rest)
        return made
    made = function(data, weight, bias, window.stride, 0, 0, *rest)
    after = [e - p for e, p in zip(extra, crop[axes:], strict=True)]
    sides = window._replace(before=tuple(-p for p in crop[:axes]), after=tuple(after)).sides
    return functional.pad(made, sides) if any(sides) else made


def _transposed_window(
    node: OnnxNode, data: Sequence[int], kernel: tuple[int, ...]
) -> tuple[Window, tuple[int, ...]]:
    """Window of a transposed convolution, and what is added at its end."""
    plain = node._replace(attributes={k: v for k, v in node.attributes.items() if k != "auto_pad"})
    window = window_of(plain, data, kernel)
    extra = tuple(node.get("output_padding") or (0,) * len(kernel))
    wanted, automatic = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if wanted is None and automatic in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(data, window.stride, strict=True)]
    if wanted is None:
        return window, extra
    before, after = [], []
    for i, size in enumerate(wanted[-len(kernel) :]):
        full = window.stride[i] * (data[i] - 1) + extra[i]
        total = max(full + (kernel[i] - 1) * window.dilation[i] + 1 - size, 0)
        half = total // 2
        before.append(total - half if automatic != "SAME_UPPER" else half)
        after.append(total - before[-1])
    return window._replace(before=tuple(before), after=tuple(after)), extra


@operator("DeformConv")
def deform_conv(
    node: OnnxNode, x: Value, w: Value, offset: Value, b: Value = None, mask: Value = None
) -> Tensor:
    """A convolution at sampled positions."""
    from torchvision.ops import deform_conv2d

    data, weight = tensor_of(x), tensor_of(w)
    window = window_of(node, data.shape[2:], weight.shape[2:])
    made: Tensor = deform_conv2d(
        data, tensor_of(offset), weight, None if b is None else tensor_of(b),
        window.stride, window.before, window.dilation,
        None if mask is None else tensor_of(mask),
    )  # fmt: skip
    return made


# ------------------------------------------------------------------------------------ pools


def _padded(data: Tensor, window: Window, fill: float) -> tuple[Tensor, tuple[int, ...]]:
    """A map with what torch's own pools do not add, and what is left for them to add."""
    small = all(2 * p <= k for p, k in zip(window.before, window.kernel, strict=True))
    if window.even and small:
        return data, window.before
    return functional.pad(data, window.sides, value=fill), (0,) * len(window.kernel)


@operator("MaxPool")
def max_pool(node: OnnxNode, x: Value) -> Any:
    """The maximum of each window."""
    data = tensor_of(x)
    axes = data.dim() - 2
    _require_axes(node, axes, data)
    window = window_of(node, data.shape[2:], node.get("kernel_shape", ()))
    lowest = -math.inf if data.is_floating_point() else torch.iinfo(data.dtype).min
    data, padding = _padded(data, window, lowest)
    return _MAX_POOLS[axes - 1](
        data, window.kernel, window.stride, padding, window.dilation, bool(node.get("ceil_mode")),
        return_indices=len(node.outputs) > 1,
    )  # fmt: skip


@operator("AveragePool")
def average_pool(node: OnnxNode, x: Value) -> Tensor:
    """The mean of each window."""
    data = tensor_of(x)
    axes = data.dim() - 2
    _require_axes(node, axes, data)
    window = window_of(node, data.shape[2:], node.get("kernel_shape", ()))
    ceil, padded = bool(node.get("ceil_mode")), bool(node.get("count_include_pad"))
    if set(window.dilation) != {1}:
        return _taps(data, window, ceil=ceil)
    data, padding = _padded(data, window, 0.0)
    made: Tensor = _AVERAGE_POOLS[axes - 1](
        data, window.kernel, window.stride, padding, ceil, padded
    )
    return made


def _taps(data: Tensor, window: Window, *, ceil: bool) -> Tensor:
    """The mean of windows with gaps, which torch has no pool for: tap by tap."""
    if math.prod(window.kernel) > _MAX_TAPS:
        raise RequestError(f"a pool with gaps of more than {_MAX_TAPS:,} taps: refused")
    data = functional.pad(data, window.sides)
    rounded = math.ceil if ceil else math.floor
    pieces = []
    for taps in itertools.product(*map(range, window.kernel)):
        piece = data
        for axis, tap in enumerate(taps):
            k, s, d = window.kernel[axis], window.stride[axis], window.dilation[axis]
            n = rounded((data.shape[axis + 2] - (k - 1) * d - 1) / s) + 1
            index = [slice(None)] * data.dim()
            index[axis + 2] = slice(tap * d, tap * d + (n - 1) * s + 1, s)
            piece = piece[tuple(index)]
        pieces.append(piece)
    total = pieces[0]
    for piece in pieces[1:]:
        total = total + piece
    return total / len(pieces)


@operator("LpPool")
def lp_pool(node: OnnxNode, x: Value) -> Tensor:
    """The norm of each window."""
    power = node.get("p", 2)
    mean = average_pool(node._replace(outputs=node.outputs[:1]), tensor_of(x).abs() ** power)
    return (mean * math.prod(node.get("kernel_shape", (1,)))) ** (1 / power)


@operator("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def global_pool(node: OnnxNode, x: Value) -> Tensor:
    """One value for each map."""
    data = tensor_of(x)
    dims = tuple(range(2, data.dim()))
    if node.op == "GlobalMaxPool":
        return torch.amax(data, dims, keepdim=True)
    if node.op == "GlobalLpPool":
        return torch.linalg.vector_norm(data, node.get("p", 2), dims, keepdim=True)
    return torch.mean(data, dims, keepdim=True)


@operator("MaxUnpool")
def max_unpool(node: OnnxNode, x: Value, indices: Value, sizes: Value = None) -> Tensor:
    """Maxima back at their places."""
    data = tensor_of(x)
    axes = data.dim() - 2
    window = window_of(node, data.shape[2:], node.get("kernel_shape", ()))
    functions: Any = (
        functional.max_unpool1d, functional.max_unpool2d, functional.max_unpool3d
    )  # fmt: skip
    wanted = None if sizes is None else ints(sizes)
    made: Tensor = functions[axes - 1](
        data, tensor_of(indices), window.kernel, window.stride, window.before, wanted
    )
    return made


@operator("LRN")
def lrn(node: OnnxNode, x: Value) -> Tensor:
    """Normalise across neighbouring channels (Krizhevsky et al. 2012, section 3.3)."""
    return functional.local_response_norm(
        tensor_of(x), node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75),
        node.get("bias", 1.0),
    )  # fmt: skip


@operator("Col2Im")
def col2im(node: OnnxNode, x: Value, sizes: Value, block: Value) -> Tensor:
    """Blocks added up where they overlap."""
    kernel = tuple(ints(block))
    window = window_of(node, shape_of(x)[-2:] if len(kernel) == 2 else (1,) * len(kernel), kernel)
    return functional.fold(
        tensor_of(x), tuple(ints(sizes)), kernel, window.dilation, window.before, window.stride
    )


@operator("RoiAlign")
def roi_align(node: OnnxNode, x: Value, rois: Value, batch: Value) -> Tensor:
    """Maps of boxes."""
    from torchvision.ops import roi_align as align

    boxes = torch.cat([tensor_of(batch).unsqueeze(1).to(tensor_of(rois).dtype), tensor_of(rois)], 1)
    size = (node.get("output_height", 1), node.get("output_width", 1))
    half = node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    made: Tensor = align(
        tensor_of(x), boxes, size, node.get("spatial_scale", 1.0),
        node.get("sampling_ratio", 0) or -1, aligned=half,
    )  # fmt: skip
    return made
