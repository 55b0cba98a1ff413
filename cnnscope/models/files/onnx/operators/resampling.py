"""Resize and its kin: maps on another grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, floats, ints, tensor_of
from cnnscope.models.files.permitted import META

_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Upsample")
def upsample(node: OnnxNode, x: Value, scales: Value = None) -> Tensor:
    """Resize of before version 10: positions are divided by the scale."""
    factors = list(node.get("scales") or ()) if scales is None else floats(scales)
    old = node._replace(attributes={
        **node.attributes, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor",
    })  # fmt: skip
    data = tensor_of(x)
    sizes = [math.floor(n * f) for n, f in zip(data.shape, factors, strict=True)]
    return _resize(old, data, sizes, factors)


@operator("Resize")
def resize(node: OnnxNode, x: Value, *given: Value) -> Tensor:
    """A map of other sizes: (x, scales) in version 10, (x, roi, scales, sizes) since."""
    if node.version < 11:
        scales, sizes = given[0], None
        node = node._replace(attributes={
            **node.attributes, "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        })  # fmt: skip
    else:
        _, scales, sizes = (*given, None, None, None)[:3]
    data = tensor_of(x)
    axes = [a % data.dim() for a in node.get("axes") or range(data.dim())]
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise RequestError(f"{node} crops where its input says, which is not read here: refused")
    if sizes is not None and (known := ints(sizes)):
        return _to_sizes(node, data, axes, known)
    factors = [1.0] * data.dim()
    if scales is None or not (known_scales := floats(scales)):
        raise RequestError(f"{node} has neither scales nor sizes")
    for axis, factor in zip(axes, known_scales, strict=True):
        factors[axis] = factor
    wanted = [math.floor(n * f) for n, f in zip(data.shape, factors, strict=True)]
    return _resize(node, data, wanted, factors)


def _to_sizes(node: OnnxNode, data: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Sizes as they are given, or what keeps the proportions within them."""
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    factors, wanted = [1.0] * data.dim(), list(data.shape)
    ratios = [size / data.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy != "stretch":
        one = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [one] * len(ratios)
        sizes = [math.floor(one * data.shape[axis] + 0.5) for axis in axes]
    for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
        factors[axis], wanted[axis] = ratio, size
    return _resize(node, data, wanted, factors)


def _resize(node: OnnxNode, data: Tensor, sizes: list[int], factors: list[float]) -> Tensor:
    """Another grid by torch's own function where it has the same, else axis by axis."""
    mode = node.get("mode", "nearest")
    where = node.get("coordinate_transformation_mode", "half_pixel")
    if list(data.shape) == sizes:
        return data
    changed = [axis for axis, size in enumerate(sizes) if size != data.shape[axis]]
    torch_mode = _torch_mode(node, mode, where, data.dim() - 2, data.shape, factors, changed)
    if torch_mode and changed[0] > 1 and data.dim() in (3, 4, 5):
        name, corners = torch_mode
        smooth = {} if corners is None else {"align_corners": corners}
        if node.get("antialias"):
            smooth["antialias"] = True
        exact = all(n * f == m for n, f, m in zip(data.shape, factors, sizes, strict=True))
        given = {"size": sizes[2:]} if exact else {"scale_factor": factors[2:]}
        return functional.interpolate(data, **given, mode=name, **smooth)
    if mode == "linear":
        return _linear(node, data, sizes, factors)
    for axis in changed:
        data = _along(node, data, axis, sizes[axis], factors[axis])
    return data


def _linear(node: OnnxNode, data: Tensor, sizes: list[int], factors: list[float]) -> Tensor:
    """Positions that `functional.interpolate` does not have.

    Where they are multiples of 1/f (asymmetric, whole factors), they are those of aligned corners
    up to the last pixel, which is repeated from there on. Any other grid is sampled at given
    positions, of which no receptive field is followed.
    """
    axes = data.dim() - 2
    where = node.get("coordinate_transformation_mode", "half_pixel")
    whole = all(f == int(f) and n > 1 for n, f in zip(data.shape[2:], factors[2:], strict=True))
    if not 1 <= axes <= 3 or factors[:2] != [1.0, 1.0]:
        raise RequestError(f"{node}: a linear resize of batch or channels, or of {axes} axes")
    if where == "asymmetric" and whole and min(factors) >= 1:
        pairs = list(zip(data.shape[2:], map(int, factors[2:]), strict=True))
        inner = [(n - 1) * f + 1 for n, f in pairs]
        made = functional.interpolate(data, inner, mode=_SMOOTH[axes], align_corners=True)
        sides = [side for _, f in reversed(pairs) for side in (0, f - 1)]
        return functional.pad(made, sides, mode="replicate")
    if axes == 1:
        flat = data.unsqueeze(2)
        return _sampled(flat, [sizes[0], 1, sizes[2]]).squeeze(2)
    return _sampled(data, [sizes[0], *sizes[2:]])


def _sampled(data: Tensor, sizes: Sequence[int]) -> Tensor:
    """Values at positions that a grid has: N, the sizes, one number for each axis."""
    grid = torch.empty((*sizes, len(sizes) - 1), dtype=data.dtype, device=META)
    return functional.grid_sample(data, grid, "bilinear", "border", align_corners=False)


def _torch_mode(
    node: OnnxNode, mode: str, where: str, axes: int, shape: Sequence[int],
    factors: Sequence[float], changed: Sequence[int],
) -> tuple[str, bool | None] | None:  # fmt: skip
    """The mode of `functional.interpolate` that does the same, and its `align_corners`."""
    if mode == "nearest":
        whole = all(float(factors[axis]).is_integer() for axis in changed)
        return _nearest(where, node.get("nearest_mode", "round_prefer_floor"), whole=whole)
    name = {"linear": _SMOOTH.get(axes), "cubic": "bicubic" if axes == 2 else None}.get(mode)
    small = where == "pytorch_half_pixel" and any(shape[a] * factors[a] < 2 for a in changed)
    known = ("half_pixel", "pytorch_half_pixel", "align_corners")
    if name is None or small or where not in known:
        return None
    return name, where == "align_corners"


def _nearest(where: str, rounding: str, *, whole: bool) -> tuple[str, None] | None:
    """The same for the nearest pixel."""
    if where == "asymmetric" and rounding == "floor":
        return "nearest", None
    if where not in ("half_pixel", "pytorch_half_pixel"):
        return None
    if whole:
        return "nearest", None  # no position lies half-way between two pixels
    return ("nearest-exact", None) if rounding == "round_prefer_ceil" else None


def _along(node: OnnxNode, data: Tensor, axis: int, size: int, factor: float) -> Tensor:
    """Another grid along one axis, of the nearest pixels."""
    length = data.shape[axis]
    at = _positions(node, length, size, factor)
    if node.get("mode", "nearest") == "nearest":
        rounded = _rounded(at, node.get("nearest_mode", "round_prefer_floor"))
        return torch.index_select(data, axis, rounded.clamp(0, length - 1).to(torch.int64))
    raise RequestError(f"{node}: a resize that PyTorch has no function for: refused")


def _positions(node: OnnxNode, length: int, size: int, factor: float) -> Tensor:
    """Where each new pixel lies on the old grid."""
    at: Any = torch.arange(size, dtype=torch.float32, device=META)
    where = node.get("coordinate_transformation_mode", "half_pixel")
    if where == "asymmetric":
        return at / factor
    if where == "align_corners":
        return at * ((length - 1) / (size - 1)) if size > 1 else at * 0
    if where in ("half_pixel", "half_pixel_symmetric") or (
        where == "pytorch_half_pixel" and size > 1
    ):
        return (at + 0.5) / factor - 0.5
    if where == "pytorch_half_pixel":
        return at * 0
    raise RequestError(f"{node}: positions by {where!r}, which is not read here: refused")


def _rounded(at: Tensor, how: str) -> Tensor:
    if how == "floor":
        return torch.floor(at)
    if how == "ceil":
        return torch.ceil(at)
    if how == "round_prefer_ceil":
        return torch.floor(at + 0.5)
    return torch.ceil(at - 0.5)


@operator("GridSample")
def grid_sample(node: OnnxNode, x: Value, grid: Value) -> Tensor:
    """Values at given positions."""
    mode = node.get("mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return functional.grid_sample(
        tensor_of(x), tensor_of(grid), mode, node.get("padding_mode", "zeros"),
        bool(node.get("align_corners")),
    )  # fmt: skip


@operator("AffineGrid")
def affine_grid(node: OnnxNode, theta: Value, size: Value) -> Tensor:
    """Positions after a linear map."""
    return functional.affine_grid(tensor_of(theta), ints(size), bool(node.get("align_corners")))


@operator("DepthToSpace")
def depth_to_space(node: OnnxNode, x: Value) -> Tensor:
    """Channels that become pixels: sub-pixel convolution has them in the order CRD."""
    data, block = tensor_of(x), node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(data, block)
    n, c, h, w = data.shape
    split = data.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(node: OnnxNode, x: Value) -> Tensor:
    """Pixels that become channels."""
    data, block = tensor_of(x), node.get("blocksize")
    n, c, h, w = data.shape
    split = data.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return split.reshape(n, c * block**2, h // block, w // block)
