"""Operators that move, copy or select values, and those that make them from nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import OnnxNode, Weight
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import (
    Constant,
    Value,
    array_of,
    count,
    dtype_of,
    ints,
    number,
    numpy_dtype,
    shape_of,
    tensor_of,
)
from cnnscope.models.files.permitted import META

_MAX_PIECES = 1024  # of a list that the file does not name one by one


def axis_of(node: OnnxNode, rank: int, default: int = 0, name: str = "axis") -> int:
    """An axis of a node, counted from the first.

    Raises:
        RequestError: there is no such axis.
    """
    axis = int(node.get(name, default))
    if not -rank <= axis <= rank:
        raise RequestError(f"{node}: axis {axis} of {rank}")
    return axis + rank if axis < 0 else axis


def sizes_for(data: Sequence[int], wanted: Sequence[int], *, zero_is_zero: bool) -> list[int]:
    """Sizes of a reshape: 0 keeps a size, -1 takes what is left."""
    kept = [
        data[i] if n == 0 and not zero_is_zero and i < len(data) else n
        for i, n in enumerate(wanted)
    ]
    return [int(size) for size in kept]


@operator("Reshape")
def reshape(node: OnnxNode, x: Value, shape: Value = None) -> Tensor:
    """The same values in other sizes."""
    data = tensor_of(x)
    wanted = list(node.get("shape") or ()) if shape is None else ints(shape)
    return data.reshape(sizes_for(data.shape, wanted, zero_is_zero=bool(node.get("allowzero"))))


@operator("Flatten")
def flatten(node: OnnxNode, x: Value) -> Tensor:
    """A matrix: all axes before one, and all from it on."""
    data = tensor_of(x)
    axis = axis_of(node, data.dim(), 1)
    if axis == 1 and data.dim() > 1:
        return data.flatten(1)
    return data.reshape(math.prod(data.shape[:axis]), -1 if data.numel() else 0)


def _axes(node: OnnxNode, rank: int, axes: Value) -> list[int]:
    given = list(node.get("axes") or ()) if axes is None else ints(axes)
    return sorted(axis + rank if axis < 0 else axis for axis in given)


@operator("Squeeze")
def squeeze(node: OnnxNode, x: Value, axes: Value = None) -> Tensor:
    """Axes of size one go."""
    data = tensor_of(x)
    if axes is None and not node.get("axes"):
        return data.squeeze()
    found = _axes(node, data.dim(), axes)
    for axis in found:
        if data.shape[axis] != 1:
            raise RuntimeError(f"Squeeze of axis {axis}, whose size is {data.shape[axis]}")
    return data.squeeze(found[0]) if len(found) == 1 else data.squeeze(tuple(found))


@operator("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Value, axes: Value = None) -> Tensor:
    """Axes of size one come."""
    data = tensor_of(x)
    added = len(list(node.get("axes") or ()) if axes is None else ints(axes))
    for axis in _axes(node, data.dim() + added, axes):
        data = data.unsqueeze(axis)
    return data


@operator("Transpose")
def transpose(node: OnnxNode, x: Value) -> Tensor:
    """Axes in another order."""
    data = tensor_of(x)
    order = node.get("perm") or tuple(reversed(range(data.dim())))
    return data.permute(order)


@operator("Concat")
def concat(node: OnnxNode, *given: Value) -> Tensor:
    """Values side by side."""
    tensors = [tensor_of(one) for one in given]
    return torch.cat(tensors, axis_of(node, tensors[0].dim(), 1))


@operator("Split")
def split(node: OnnxNode, x: Value, sizes: Value = None) -> Any:
    """Pieces along an axis: of given sizes, or equal ones."""
    data = tensor_of(x)
    axis, pieces = axis_of(node, data.dim()), len(node.outputs)
    wanted = list(node.get("split") or ()) if sizes is None else ints(sizes)
    if not wanted:
        size = -(-data.shape[axis] // pieces)
        wanted = [size] * (pieces - 1) + [data.shape[axis] - size * (pieces - 1)]
    if len(wanted) != pieces:
        raise RequestError(f"{node}: {len(wanted)} pieces, and names for {pieces}")
    if len(set(wanted[:-1])) == 1 and wanted[-1] <= wanted[0]:
        return data.split(wanted[0], axis)
    return data.split(wanted, axis)


@operator("Slice")
def slices(
    node: OnnxNode, x: Value, starts: Value = None, ends: Value = None, axes: Value = None,
    steps: Value = None,
) -> Tensor:  # fmt: skip
    """Every so many values between two places along some axes."""
    data = tensor_of(x)
    begin = list(node.get("starts", ())) if starts is None else ints(starts)
    end = list(node.get("ends", ())) if ends is None else ints(ends)
    given = list(node.get("axes") or range(len(begin))) if axes is None else ints(axes)
    every = [1] * len(begin) if steps is None else ints(steps)
    for first, last, axis, step in zip(begin, end, given, every, strict=True):
        data = _sliced(data, axis, first, last, step)
    return data


def _sliced(data: Tensor, axis: int, first: int, last: int, step: int) -> Tensor:
    """A slice along one axis; one that runs backwards is flipped first."""
    size = data.shape[axis]
    if step > 0:
        begin, end, _ = slice(first, last, step).indices(size)
        index = [slice(None)] * data.dim()
        index[axis] = slice(begin, max(begin, end), step)
        return data if (begin, end, step) == (0, size, 1) else data[tuple(index)]
    low, high = (first + size if first < 0 else first), (last + size if last < 0 else last)
    high = -1 if last < -size else high
    flipped = data.flip(axis)
    return _sliced(flipped, axis, max(size - 1 - low, 0), max(size - 1 - high, 0), -step)


@operator("Gather")
def gather(node: OnnxNode, x: Value, indices: Value) -> Tensor:
    """Rows at given places: one, neighbours, or a table that is looked up."""
    data = tensor_of(x)
    axis = axis_of(node, data.dim())
    places = array_of(indices)
    if places is not None and not places.ndim:
        return data.select(axis, int(places))
    if places is not None and places.ndim == 1 and len(places):
        first, steps = int(places[0]), np.diff(places)
        if first >= 0 and (steps == 1).all():
            return data.narrow(axis, first, len(places))
    index = tensor_of(indices)
    if axis == 0 and data.dim() == 2 and index.dtype in (torch.int64, torch.int32):
        return functional.embedding(index, data)
    made = torch.index_select(data, axis, index.reshape(-1))
    return (
        made
        if index.dim() == 1
        else made.unflatten(axis, index.shape)
        if index.dim()
        else (made.squeeze(axis))
    )


@operator("GatherElements")
def gather_elements(node: OnnxNode, x: Value, indices: Value) -> Tensor:
    """One value for each index."""
    data = tensor_of(x)
    return torch.gather(data, axis_of(node, data.dim()), tensor_of(indices))


@operator("GatherND")
def gather_nd(node: OnnxNode, x: Value, indices: Value) -> Tensor:
    """Values or rows at places of several axes."""
    data, index = tensor_of(x), tensor_of(indices)
    batch = int(node.get("batch_dims", 0))
    places: list[Tensor] = list(index.unbind(-1))
    own = [
        torch.arange(data.shape[i], device=META).reshape(
            [-1 if j == i else 1 for j in range(places[0].dim())]
        )
        for i in range(batch)
    ]
    return data[tuple(own + places)]


@operator("ScatterElements Scatter")
def scatter(node: OnnxNode, x: Value, indices: Value, updates: Value) -> Tensor:
    """Values written to places along an axis."""
    data = tensor_of(x)
    how = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(node.get("reduction", ""))
    axis = axis_of(node, data.dim())
    if how:
        return torch.scatter_reduce(data, axis, tensor_of(indices), tensor_of(updates), how)
    return torch.scatter(data, axis, tensor_of(indices), tensor_of(updates))


@operator("ScatterND")
def scatter_nd(node: OnnxNode, x: Value, indices: Value, updates: Value) -> Tensor:
    """Values or rows written to places of several axes."""
    data, index = tensor_of(x), tensor_of(indices)
    places = tuple(index.unbind(-1))
    accumulate = node.get("reduction", "none") == "add"
    return torch.index_put(data, places, tensor_of(updates), accumulate)


@operator("TensorScatter")
def tensor_scatter(node: OnnxNode, x: Value, update: Value, places: Value = None) -> Tensor:
    """What a cache holds after a write."""
    del node, update, places
    return tensor_of(x).clone()


@operator("Pad")
def pad(
    node: OnnxNode, x: Value, pads: Value = None, value: Value = None, axes: Value = None
) -> Tensor:
    """What is added at each side; a negative number is cut off."""
    data = tensor_of(x)
    sides = list(node.get("pads") or node.get("paddings") or ()) if pads is None else ints(pads)
    along = range(data.dim()) if axes is None else ints(axes)
    if len(sides) != 2 * len(along):
        raise RequestError(f"{node}: {len(sides)} pads for {len(along)} axes")
    before = [0] * data.dim()
    after = [0] * data.dim()
    for place, axis in enumerate(along):
        before[axis], after[axis] = sides[place], sides[place + len(along)]
    mode = {"edge": "replicate", "wrap": "circular"}.get(node.get("mode", "constant"))
    mode = mode or node.get("mode", "constant")
    return _padded(data, before, after, mode, _fill(node, value))


def _fill(node: OnnxNode, value: Value) -> float:
    known = array_of(value) if value is not None else None
    return (
        float(node.get("value", 0.0))
        if known is None or not known.size
        else float(known.reshape(-1)[0])
    )


def _padded(data: Tensor, before: list[int], after: list[int], mode: str, fill: float) -> Tensor:
    """A pad of the last axes; those that others than constants pad lie behind the channels."""
    first = next((i for i, both in enumerate(zip(before, after, strict=True)) if any(both)), None)
    if first is None:
        return data
    if mode == "constant":
        sides = [side for axis in range(data.dim() - 1, first - 1, -1)
                 for side in (before[axis], after[axis])]  # fmt: skip
        return functional.pad(data, sides, value=fill)
    spatial = data.dim() - 2
    if first >= 2 and 1 <= spatial <= 3:
        sides = [side for axis in range(data.dim() - 1, 1, -1)
                 for side in (before[axis], after[axis])]  # fmt: skip
        return functional.pad(data, sides, mode=mode)
    last = [axis for axis in range(data.dim()) if before[axis] or after[axis]]
    for axis in last:
        moved = data.movedim(axis, -1)
        flat = moved.reshape(1, -1, moved.shape[-1])
        flat = functional.pad(flat, (before[axis], after[axis]), mode=mode)
        data = flat.reshape(*moved.shape[:-1], flat.shape[-1]).movedim(-1, axis)
    return data


@operator("Expand")
def expand(node: OnnxNode, x: Value, shape: Value) -> Tensor:
    """Repeat along axes of size one, by the rules of broadcasting."""
    del node
    data = tensor_of(x)
    return data.expand(torch.broadcast_shapes(data.shape, tuple(ints(shape))))


@operator("Tile")
def tile(node: OnnxNode, x: Value, repeats: Value) -> Tensor:
    """Repeat along every axis."""
    del node
    return tensor_of(x).repeat(ints(repeats))


@operator("Trilu")
def trilu(node: OnnxNode, x: Value, k: Value = None) -> Tensor:
    """The part above or below a diagonal."""
    offset = 0 if k is None else int(number(k))
    function = torch.triu if node.get("upper", 1) else torch.tril
    return function(tensor_of(x), offset)


@operator("OneHot")
def one_hot(node: OnnxNode, indices: Value, depth: Value, values: Value) -> Tensor:
    """Numbers as rows that are hot at one place."""
    index, width = tensor_of(indices), int(number(depth))
    axis = axis_of(node, index.dim() + 1, -1)
    places = torch.arange(width, device=META).reshape([-1] + [1] * (index.dim() - axis))
    return torch.where(index.unsqueeze(axis) == places, 1, 0).to(tensor_of(values).dtype)


@operator("ReverseSequence")
def reverse_sequence(node: OnnxNode, x: Value, lengths: Value) -> Tensor:
    """Each sequence backwards up to its length."""
    del lengths
    return tensor_of(x).flip(int(node.get("time_axis", 0)))


@operator("CenterCropPad")
def center_crop_pad(node: OnnxNode, x: Value, shape: Value) -> Tensor:
    """Cut or pad both sides to a size."""
    data = tensor_of(x)
    axes = [axis % data.dim() for axis in node.get("axes") or range(data.dim())]
    before, after = [0] * data.dim(), [0] * data.dim()
    for axis, size in zip(axes, ints(shape), strict=True):
        change = size - data.shape[axis]
        before[axis] = change // 2 if change >= 0 else -((-change) // 2)
        after[axis] = change - before[axis]
    return _padded(data, before, after, "constant", 0.0)


# --------------------------------------------------------------------------- from nothing


@operator("Shape")
def shape(node: OnnxNode, x: Value) -> np.ndarray:
    """Sizes, whose values are known."""
    sizes = shape_of(x)
    return np.array(sizes[slice(node.get("start", 0), node.get("end"))], np.int64)


@operator("Size")
def size(node: OnnxNode, x: Value) -> np.ndarray:
    """Number of elements."""
    del node
    return np.array(math.prod(shape_of(x)), np.int64)


@operator("Constant")
def constant(node: OnnxNode) -> Value:
    """A value of the file."""
    for name in ("value_float", "value_int", "value_floats", "value_ints"):
        if name in node.attributes:
            dtype = np.float32 if "float" in name else np.int64
            return np.array(node.get(name), dtype)
    held = node.get("value", node.get("sparse_value"))
    if not isinstance(held, (Weight, Constant)):
        raise RequestError(f"{node}: a constant that is no tensor of numbers")
    if isinstance(held, Constant):
        return held
    if held.array is not None:
        return held.array
    return torch.empty(held.shape, dtype=dtype_of(held.data_type), device=META)


@operator("ConstantOfShape")
def constant_of_shape(node: OnnxNode, shape: Value) -> Value:
    """One number everywhere."""
    sizes = ints(shape)
    total, held = count(sizes), node.get("value")
    array = held.array if isinstance(held, Weight) else None
    data_type = held.data_type if isinstance(held, Weight) else 1
    fill = 0 if array is None or not array.size else array.reshape(-1)[0].item()
    if total <= 4096:
        return np.full(sizes, fill, numpy_dtype(dtype_of(data_type)))
    return torch.full(sizes, fill, dtype=dtype_of(data_type), device=META)


@operator("Range")
def range_(node: OnnxNode, start: Value, limit: Value, delta: Value) -> Tensor:
    """Numbers in equal steps."""
    del node
    first, last, step = (number(one) for one in (start, limit, delta))
    count((max(0, math.ceil((last - first) / step)),))
    dtype = tensor_of(start).dtype
    return torch.arange(first, last, step, dtype=dtype, device=META)


@operator("EyeLike")
def eye_like(node: OnnxNode, x: Value) -> Tensor:
    """Ones on a diagonal."""
    data, wanted = tensor_of(x), node.get("dtype")
    dtype = data.dtype if wanted is None else dtype_of(wanted)
    return torch.eye(data.shape[0], data.shape[1], dtype=dtype, device=META)


@operator("RandomNormal RandomUniform")
def random(node: OnnxNode) -> Tensor:
    """Random numbers."""
    sizes = list(node.get("shape", ()))
    count(sizes)
    function = torch.randn if "Normal" in node.op else torch.rand
    return function(sizes, dtype=dtype_of(node.get("dtype", 1)), device=META)


@operator("RandomNormalLike RandomUniformLike")
def random_like(node: OnnxNode, x: Value) -> Tensor:
    """Random numbers of another value's sizes."""
    wanted = node.get("dtype")
    function = torch.randn_like if "Normal" in node.op else torch.rand_like
    return function(tensor_of(x), dtype=None if wanted is None else dtype_of(wanted))


@operator("Bernoulli")
def bernoulli(node: OnnxNode, x: Value) -> Tensor:
    """Random zeros and ones."""
    made, wanted = torch.bernoulli(tensor_of(x)), node.get("dtype")
    return made if wanted is None else made.to(dtype_of(wanted))


@operator("Multinomial")
def multinomial(node: OnnxNode, x: Value) -> Tensor:
    """Random numbers of classes."""
    made = torch.multinomial(tensor_of(x).exp(), int(node.get("sample_size", 1)), True)
    return made.to(dtype_of(node.get("dtype", 6)))


@operator("HannWindow HammingWindow BlackmanWindow")
def window(node: OnnxNode, size: Value) -> Tensor:
    """A window of signal processing."""
    function: Any = {
        "HannWindow": torch.hann_window, "HammingWindow": torch.hamming_window,
        "BlackmanWindow": torch.blackman_window,
    }[node.op]  # fmt: skip
    length = int(number(size))
    count((length,))
    made: Tensor = function(length, bool(node.get("periodic", 1)), device=META)
    return made


# ------------------------------------------------------------------------------- sequences


class Items(tuple[Value, ...]):
    """A list of values, as one value."""

    __slots__ = ()


@operator("SequenceEmpty")
def sequence_empty(node: OnnxNode) -> tuple[Value, ...]:
    """A list of nothing."""
    del node
    return (Items(()),)


@operator("SequenceConstruct")
def sequence_construct(node: OnnxNode, *given: Value) -> tuple[Value, ...]:
    """A list of values."""
    del node
    return (Items(given),)


@operator("SequenceInsert")
def sequence_insert(node: OnnxNode, items: Value, x: Value, at: Value = None) -> Any:
    """A list with one value more."""
    del node
    place = len(items) if at is None else int(number(at))
    return (Items((*items[:place], x, *items[place:])),)


@operator("SequenceAt")
def sequence_at(node: OnnxNode, items: Value, at: Value) -> Any:
    """One value of a list."""
    del node
    return items[int(number(at))]


@operator("SequenceLength")
def sequence_length(node: OnnxNode, items: Value) -> np.ndarray:
    """How many values a list has."""
    del node
    return np.array(len(items), np.int64)


@operator("SplitToSequence")
def split_to_sequence(node: OnnxNode, x: Value, sizes: Value = None) -> Any:
    """A list of pieces along an axis."""
    data = tensor_of(x)
    axis = axis_of(node, data.dim())
    pieces = 1 if sizes is None else ints(sizes)
    if isinstance(pieces, list) and not shape_of(sizes):
        pieces = pieces[0]
    length = -(-data.shape[axis] // pieces) if isinstance(pieces, int) and pieces > 0 else 0
    if length > _MAX_PIECES:
        raise RequestError(f"{node}: {length:,} pieces of one tensor: refused")
    found = data.split(pieces, axis)
    if sizes is None and not node.get("keepdims", 1):
        found = tuple(one.squeeze(axis) for one in found)
    return (Items(found),)


@operator("ConcatFromSequence")
def concat_from_sequence(node: OnnxNode, items: Value) -> Tensor:
    """The values of a list side by side."""
    tensors = [tensor_of(one) for one in items]
    axis = int(node.get("axis", 0))
    return torch.stack(tensors, axis) if node.get("new_axis") else torch.cat(tensors, axis)
