"""Operators that have one value for many."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, array_of, ints, number, tensor_of


def axes_of(node: OnnxNode, rank: int, axes: Value = None) -> list[int] | None:
    """Axes of a reduction: an input, or an attribute in older versions; None for nothing to do."""
    given = list(node.get("axes") or ()) if axes is None else ints(axes)
    if given:
        return [axis + rank if axis < 0 else axis for axis in given]
    return None if node.get("noop_with_empty_axes") else list(range(rank))


def _logsumexp(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    return torch.logsumexp(x, dims, keepdim)


_REDUCTIONS: dict[str, Any] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL1": lambda x, d, k: torch.linalg.vector_norm(x, 1, d, k),
    "ReduceL2": lambda x, d, k: torch.linalg.vector_norm(x, 2, d, k),
    "ReduceLogSum": lambda x, d, k: torch.log(torch.sum(x, d, k)),
    "ReduceLogSumExp": _logsumexp,
    "ReduceSumSquare": lambda x, d, k: torch.sum(x * x, d, k),
}


@operator(" ".join(_REDUCTIONS))
def reduce(node: OnnxNode, x: Value, axes: Value = None) -> Tensor:
    """One value for all along some axes."""
    data = tensor_of(x)
    dims = axes_of(node, data.dim(), axes)
    if dims is None or not data.dim():
        return data
    made: Tensor = _REDUCTIONS[node.op](data, dims, bool(node.get("keepdims", 1)))
    return made.to(data.dtype)


@operator("ReduceProd")
def reduce_prod(node: OnnxNode, x: Value, axes: Value = None) -> Tensor:
    """The product along some axes, one after the other."""
    data = tensor_of(x)
    for dim in sorted(axes_of(node, data.dim(), axes) or (), reverse=True):
        data = torch.prod(data, dim, bool(node.get("keepdims", 1)))
    return data


@operator("ArgMax ArgMin")
def arg(node: OnnxNode, x: Value) -> Tensor:
    """Where the largest or smallest value is."""
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return function(tensor_of(x), node.get("axis", 0), bool(node.get("keepdims", 1)))


@operator("TopK")
def top_k(node: OnnxNode, x: Value, k: Value = None) -> Any:
    """The largest values along an axis, and where they are."""
    wanted = node.get("k") if k is None else int(number(k))
    return torch.topk(
        tensor_of(x), wanted, node.get("axis", -1), bool(node.get("largest", 1)),
        bool(node.get("sorted", 1)),
    )  # fmt: skip


@operator("CumSum")
def cumsum(node: OnnxNode, x: Value, axis: Value) -> Tensor:
    """Running sums."""
    dim = int(number(axis))
    if not node.get("reverse"):
        return torch.cumsum(tensor_of(x), dim)
    return torch.cumsum(tensor_of(x).flip(dim), dim).flip(dim)


@operator("CumProd")
def cumprod(node: OnnxNode, x: Value, axis: Value) -> Tensor:
    """Running products."""
    del node
    return torch.cumprod(tensor_of(x), int(number(axis)))


@operator("Unique")
def unique(node: OnnxNode, x: Value) -> Any:
    """Each value once: how many depends on data."""
    return torch.unique(tensor_of(x), bool(node.get("sorted", 1)), True, True, node.get("axis"))


@operator("NonZero")
def nonzero(node: OnnxNode, x: Value) -> Tensor:
    """Where values are not zero: how many depends on data."""
    del node
    return torch.nonzero(tensor_of(x)).t()


@operator("Compress")
def compress(node: OnnxNode, x: Value, condition: Value) -> Tensor:
    """What a condition selects: how much depends on data, where that is no constant."""
    data, axis, known = tensor_of(x), node.get("axis"), array_of(condition)
    if known is None:
        places = torch.nonzero(tensor_of(condition)).squeeze(1)
    else:
        places = torch.tensor(known.nonzero()[0].tolist(), dtype=torch.int64, device=data.device)
    if axis is None:
        return torch.index_select(data.flatten(), 0, places)
    return torch.index_select(data, axis, places)


@operator("NonMaxSuppression")
def non_max_suppression(
    node: OnnxNode, boxes: Value, scores: Value, most: Value = None, *rest: Value
) -> Tensor:
    """Boxes of each class that are not suppressed: as many as there may be, at the most.

    Raises:
        RequestError: their number is not bounded by a constant.
    """
    del rest
    from cnnscope.models.files.onnx.unknown import recorded

    batch, classes, spatial = tensor_of(scores).shape
    kept = 0 if most is None else min(int(number(most)), spatial)
    size = (batch * classes * kept, 3)
    return recorded(node.kind, (boxes, scores), [size], [torch.int64])[0]
