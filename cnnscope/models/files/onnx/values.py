"""Values of a graph while it runs: tensors without data, and small arrays that are known.

Much of an ONNX graph is arithmetic on shapes, whose results are sizes of what follows. So a value
is either a tensor of the meta device, or an array: one that the file holds, or one that was
computed from such and from the shapes of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from cnnscope.errors import RequestError
from cnnscope.models.files.permitted import MAX_ELEMENTS, MAX_RANK, META
from cnnscope.models.files.rebuilt import State

MAX_KNOWN = 2**14  # elements of an array whose values are followed

UINT4, INT4, UINT2, INT2 = (
    cast("torch.dtype", getattr(torch, name)) for name in ("uint4", "int4", "uint2", "int2")
)
# onnx.proto, TensorProto.DataType. A float of 4 bits is a number of 4 bits here.
DTYPES: dict[int, torch.dtype] = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16,
    6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64,
    12: torch.uint32, 13: torch.uint64, 14: torch.complex64, 15: torch.complex128,
    16: torch.bfloat16, 17: torch.float8_e4m3fn, 18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2, 20: torch.float8_e5m2fnuz, 21: UINT4, 22: INT4,
    23: UINT4, 24: torch.float8_e8m0fnu, 25: UINT2, 26: INT2,
}  # fmt: skip
FLOAT4 = 23
# Types of less than a byte, which torch computes nothing with: what holds their values instead.
BYTES = {UINT4: torch.uint8, INT4: torch.int8, UINT2: torch.uint8, INT2: torch.int8}
STRING = 8
_ARRAYS: dict[torch.dtype, Any] = {
    torch.float32: np.float32, torch.uint8: np.uint8, torch.int8: np.int8,
    torch.uint16: np.uint16, torch.int16: np.int16, torch.int32: np.int32,
    torch.int64: np.int64, torch.bool: np.bool_, torch.float16: np.float16,
    torch.float64: np.float64, torch.uint32: np.uint32, torch.uint64: np.uint64,
}  # fmt: skip
_TENSORS = {np.dtype(array): dtype for dtype, array in _ARRAYS.items()}
_ARRAYS |= {narrow: _ARRAYS[whole] for narrow, whole in BYTES.items()}


class Constant(NamedTuple):
    """An array of the file, and where its tensor is kept, if it has one."""

    array: np.ndarray
    state: State | None = None


Value = Any  # a Tensor, an array, a Constant, a tuple of values (a sequence), or None


def dtype_of(number: int) -> torch.dtype:
    """The dtype of a number of onnx.proto.

    Raises:
        RequestError: tensors cannot have it.
    """
    if number not in DTYPES:
        raise RequestError(f"the graph has tensors of type {number} (texts, or unknown): refused")
    return DTYPES[number]


def numpy_dtype(dtype: torch.dtype) -> Any:
    """The dtype of an array that holds such values; floats for those that numpy has not."""
    return _ARRAYS.get(dtype, np.float32)


def array_of(value: Value) -> np.ndarray | None:
    """The array of a value that is known, None of any other."""
    if isinstance(value, Constant):
        return value.array
    return value if isinstance(value, np.ndarray) else None


def shape_of(value: Value) -> tuple[int, ...]:
    """The sizes of a value."""
    array = array_of(value)
    return tuple(value.shape) if array is None else array.shape


def tensor_of(value: Value) -> Tensor:
    """The tensor of a value: one without data for an array.

    Raises:
        RequestError: it is no tensor.
    """
    if isinstance(value, Constant) and value.state is not None:
        held = getattr(value.state.module, value.state.name)
        assert isinstance(held, Tensor)  # noqa: S101
        return held
    array = array_of(value)
    if array is not None:
        return _made(array)
    if not isinstance(value, Tensor):
        raise RequestError("a value is no tensor where one is needed")
    return value


def _made(array: np.ndarray) -> Tensor:
    """A tensor of an array's shape, made by what says most of its values."""
    dtype = _TENSORS.get(array.dtype, torch.float32)
    flat = array.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return torch.full(array.shape, flat[0].item(), dtype=dtype, device=META)
    if array.ndim == 1 and flat.size > 1 and dtype is torch.int64:
        begin, step = int(flat[0]), int(flat[1]) - int(flat[0])
        if step and (np.diff(flat) == step).all():
            return torch.arange(begin, begin + step * flat.size, step, dtype=dtype, device=META)
    return torch.empty(array.shape, dtype=dtype, device=META)


def scalar_or_tensor(value: Value) -> Any:
    """A number where a value is known and single, else its tensor."""
    array = array_of(value)
    return tensor_of(value) if array is None or array.ndim else array.item()


def number(value: Value) -> Any:
    """The one number of a value; None where it has none.

    Raises:
        RuntimeError: it depends on data.
    """
    if value is None:
        return None
    array = array_of(value)
    return tensor_of(value).item() if array is None else array.reshape(-1)[0].item()


def ints(value: Value) -> list[int]:
    """The numbers of a value: sizes, axes.

    Raises:
        RuntimeError: they depend on data.
    """
    return [int(item) for item in floats(value)]


def floats(value: Value) -> list[float]:
    """The numbers of a value: scales.

    Raises:
        RuntimeError: they depend on data.
        RequestError: likewise, and they are more than a tensor has axes.
    """
    array = array_of(value)
    if array is not None:
        return list(array.reshape(-1).tolist())
    tensor = tensor_of(value).reshape(-1)
    if tensor.numel() > MAX_RANK:
        raise RequestError(f"{tensor.numel():,} sizes or axes that are not known before it runs")
    return [one.item() for one in tensor.unbind()]


def count(sizes: Sequence[int]) -> int:
    """Number of elements.

    Raises:
        RequestError: there are more than any memory has, or less than none.
    """
    total = 1
    for size in sizes:
        if size < 0:
            raise RequestError(f"a tensor of size {size}")
        total *= size
        if total > MAX_ELEMENTS:
            raise RequestError(f"a tensor of more than {MAX_ELEMENTS:,} elements")
    return total
