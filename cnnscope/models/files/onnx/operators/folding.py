"""Arithmetic on small arrays whose values are known: sizes, axes, bounds.

Its results are never larger than `values.MAX_KNOWN`; what would be is computed on tensors, without
values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnscope.models.files.onnx.graph import OnnxNode, Weight
from cnnscope.models.files.onnx.operators.moves import sizes_for
from cnnscope.models.files.onnx.operators.table import folded
from cnnscope.models.files.onnx.values import MAX_KNOWN, dtype_of, numpy_dtype

Array = np.ndarray


class TooLargeError(Exception):
    """The result has more elements than are followed."""


def _require_small(*sizes: int) -> None:
    total = 1
    for size in sizes:
        total *= max(int(size), 0)
    if total > MAX_KNOWN:
        raise TooLargeError


def _div(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        return np.array(np.trunc(a / b), a.dtype)
    return np.array(a / b)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _div, "Equal": np.equal,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "And": np.logical_and, "Or": np.logical_or,
    "Xor": np.logical_xor,
}  # fmt: skip
_VARIADIC: dict[str, Callable[[Any, Any], Any]] = {
    "Max": np.maximum, "Min": np.minimum, "Sum": np.add,
}  # fmt: skip
_UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs, "Neg": np.negative, "Ceil": np.ceil, "Floor": np.floor, "Round": np.round,
    "Sqrt": np.sqrt, "Not": np.logical_not, "Sign": np.sign, "Exp": np.exp, "Log": np.log,
    "Reciprocal": np.reciprocal, "Identity": np.asarray,
}  # fmt: skip
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceMean": np.mean,
}  # fmt: skip


@folded(" ".join((*_BINARY, *_VARIADIC)))
def elementwise(node: OnnxNode, *given: Array) -> Array:
    """Arithmetic of arrays that are broadcast."""
    _require_small(*np.broadcast_shapes(*(one.shape for one in given)))
    function = _BINARY.get(node.op) or _VARIADIC[node.op]
    return np.asarray(functools.reduce(function, given))


@folded(" ".join(_UNARY))
def unary(node: OnnxNode, x: Array) -> Array:
    """A function of each element."""
    made = np.asarray(_UNARY[node.op](x))
    return made if node.op == "Not" else made.astype(x.dtype)


@folded("Mod")
def mod(node: OnnxNode, a: Array, b: Array) -> Array:
    """A remainder."""
    _require_small(*np.broadcast_shapes(a.shape, b.shape))
    return np.asarray((np.fmod if node.get("fmod") else np.mod)(a, b))


@folded("Pow")
def power(node: OnnxNode, a: Array, b: Array) -> Array:
    """A power, of the first one's dtype."""
    del node
    _require_small(*np.broadcast_shapes(a.shape, b.shape))
    return np.asarray(np.power(a.astype(np.float64), b)).astype(a.dtype)


@folded(" ".join(_REDUCTIONS))
def reduce(node: OnnxNode, x: Array, axes: Array | None = None) -> Array:
    """One value for all along some axes."""
    given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
    if not given and node.get("noop_with_empty_axes"):
        return x
    dims = tuple(given) if given else None
    made = _REDUCTIONS[node.op](x, axis=dims, keepdims=bool(node.get("keepdims", 1)))
    return np.asarray(made).astype(x.dtype)


@folded("Cast")
def cast(node: OnnxNode, x: Array) -> Array:
    """Another dtype."""
    return x.astype(numpy_dtype(dtype_of(node.get("to"))))


@folded("CastLike")
def cast_like(node: OnnxNode, x: Array, like: Array) -> Array:
    """The dtype of another value."""
    del node
    return x.astype(like.dtype)


@folded("Gather")
def gather(node: OnnxNode, x: Array, indices: Array) -> Array:
    """Elements at given places."""
    axis = node.get("axis", 0)
    _require_small(*indices.shape, *(n for i, n in enumerate(x.shape) if i != axis % x.ndim))
    return np.asarray(np.take(x, indices.astype(np.int64), axis=axis))


@folded("Concat")
def concat(node: OnnxNode, *given: Array) -> Array:
    """Arrays side by side."""
    _require_small(sum(one.size for one in given))
    return np.concatenate(given, node.get("axis", 0))


@folded("Slice")
def slices(
    node: OnnxNode, x: Array, starts: Array | None = None, ends: Array | None = None,
    axes: Array | None = None, steps: Array | None = None,
) -> Array:  # fmt: skip
    """Every so many elements between two places."""
    begin = node.get("starts", ()) if starts is None else starts.reshape(-1).tolist()
    end = node.get("ends", ()) if ends is None else ends.reshape(-1).tolist()
    given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
    every = [1] * len(begin) if steps is None else steps.reshape(-1).tolist()
    index = [slice(None)] * x.ndim
    for axis, b, e, s in zip(given or range(len(begin)), begin, end, every, strict=True):
        index[axis] = slice(b, None if s < 0 and e < -x.shape[axis] else e, s)
    return x[tuple(index)]


@folded("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Array, axes: Array | None = None) -> Array:
    """Axes of size one come."""
    given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
    return np.expand_dims(x, tuple(given))


@folded("Squeeze")
def squeeze(node: OnnxNode, x: Array, axes: Array | None = None) -> Array:
    """Axes of size one go."""
    given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
    return np.squeeze(x, tuple(given) if given else None)


@folded("Reshape")
def reshape(node: OnnxNode, x: Array, shape: Array | None = None) -> Array:
    """The same elements in other sizes."""
    wanted = node.get("shape", ()) if shape is None else shape.reshape(-1).tolist()
    return x.reshape(sizes_for(x.shape, wanted, zero_is_zero=bool(node.get("allowzero"))))


@folded("Flatten")
def flatten(node: OnnxNode, x: Array) -> Array:
    """A matrix."""
    axis = node.get("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@folded("Transpose")
def transpose(node: OnnxNode, x: Array) -> Array:
    """Axes in another order."""
    return np.transpose(x, node.get("perm"))


@folded("Split")
def split(node: OnnxNode, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    """Pieces along an axis."""
    axis, pieces = node.get("axis", 0), len(node.outputs)
    wanted = node.get("split") if sizes is None else sizes.reshape(-1).tolist()
    if not wanted:
        size = -(-x.shape[axis] // pieces)
        wanted = [size] * pieces
    return tuple(np.split(x, np.cumsum(wanted)[: pieces - 1], axis))


@folded("Where")
def where(node: OnnxNode, condition: Array, a: Array, b: Array) -> Array:
    """One of two elements at each place."""
    del node
    _require_small(*np.broadcast_shapes(condition.shape, a.shape, b.shape))
    return np.where(condition, a, b)


@folded("Expand")
def expand(node: OnnxNode, x: Array, shape: Array) -> Array:
    """Repeat along axes of size one."""
    del node
    sizes = np.broadcast_shapes(x.shape, tuple(shape.reshape(-1).tolist()))
    _require_small(*sizes)
    return np.broadcast_to(x, sizes)


@folded("Tile")
def tile(node: OnnxNode, x: Array, repeats: Array) -> Array:
    """Repeat along every axis."""
    del node
    _require_small(x.size, *repeats.reshape(-1).tolist())
    return np.tile(x, repeats.reshape(-1).tolist())


@folded("Range")
def range_(node: OnnxNode, start: Array, limit: Array, delta: Array) -> Array:
    """Numbers in equal steps."""
    del node
    first, last, step = (one.reshape(-1)[0] for one in (start, limit, delta))
    _require_small(int((float(last) - float(first)) / float(step)) + 1)
    return np.arange(first, last, step, dtype=start.dtype)


@folded("ConstantOfShape")
def constant_of_shape(node: OnnxNode, shape: Array) -> Array:
    """One number everywhere."""
    sizes, held = shape.reshape(-1).tolist(), node.get("value")
    _require_small(*sizes)
    array = held.array if isinstance(held, Weight) else None
    dtype = numpy_dtype(dtype_of(held.data_type)) if isinstance(held, Weight) else np.float32
    return np.full(sizes, 0 if array is None or not array.size else array.reshape(-1)[0], dtype)


@folded("NonZero")
def nonzero(node: OnnxNode, x: Array) -> Array:
    """Where elements are not zero."""
    del node
    return np.array(np.nonzero(x), np.int64)


@folded("CumSum")
def cumsum(node: OnnxNode, x: Array, axis: Array) -> Array:
    """Running sums."""
    if node.get("exclusive") or node.get("reverse"):
        raise TooLargeError
    return np.cumsum(x, int(axis), dtype=x.dtype)


@folded("ArgMax ArgMin")
def arg(node: OnnxNode, x: Array) -> Array:
    """Where the largest or smallest element is."""
    function = np.argmax if node.op == "ArgMax" else np.argmin
    return np.asarray(function(x, axis=node.get("axis", 0), keepdims=bool(node.get("keepdims", 1))))


@folded("Clip")
def clip(node: OnnxNode, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Bounds."""
    least = node.get("min") if low is None else low
    most = node.get("max") if high is None else high
    return x if least is None and most is None else np.clip(x, least, most)


@folded("ScatterND")
def scatter_nd(node: OnnxNode, x: Array, indices: Array, updates: Array) -> Array:
    """Elements written to places."""
    if node.get("reduction", "none") != "none":
        raise TooLargeError
    made = x.copy()
    made[tuple(np.moveaxis(indices, -1, 0))] = updates
    return made


@folded("ScatterElements")
def scatter_elements(node: OnnxNode, x: Array, indices: Array, updates: Array) -> Array:
    """Elements written to places along an axis."""
    if node.get("reduction", "none") != "none":
        raise TooLargeError
    made = x.copy()
    made[_along(node, indices)] = updates
    return made


@folded("GatherElements")
def gather_elements(node: OnnxNode, x: Array, indices: Array) -> Array:
    """Elements at places along an axis."""
    return np.asarray(x[_along(node, indices)])


def _along(node: OnnxNode, indices: Array) -> tuple[Array, ...]:
    """The place of each index: its own, but along the node's axis what it says."""
    places = [np.asarray(one) for one in np.indices(indices.shape)]
    places[node.get("axis", 0)] = indices
    return tuple(places)


@folded("Trilu")
def trilu(node: OnnxNode, x: Array, k: Array | None = None) -> Array:
    """The part above or below a diagonal."""
    offset = 0 if k is None else int(k)
    return (np.triu if node.get("upper", 1) else np.tril)(x, offset)
