"""Explain why an operation refused its operands: which sizes differ, and who made them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import combinations, zip_longest

import torch
from torch import nn

from cnnscope.analysis import breaks, shapes
from cnnscope.ops import table
from cnnscope.records.trace import OpRecord, Shape, Trace
from cnnscope.text import operation as function

_MANY = 4  # operands that are named
_NAMES = {
    4: ("batch", "channels", "height", "width"),
    5: ("batch", "channels", "depth", "height", "width"),
}
_PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.matmul", "matmul")
_BROADCAST = re.compile(r"broadcast|size of tensor a")  # how kernels say that sizes do not
# How kernels say that an operation in place makes numbers that its tensor cannot hold.
_CAST = re.compile(r"^Promotion of |can't be cast")
_VIEWS = ("aten.view", "aten.reshape", "aten._unsafe_view")


def reason(trace: Trace, record: OpRecord) -> str:
    """Explain a refusal in words that name the operands and their makers; "" if they are unknown.

    Args:
        trace: up to the operation.
        record: of the operation, which has no outputs.
    """
    if not record.tensors:
        return ""
    name = function(record.name)
    message = _message(trace).removeprefix(f"{name}: ")
    found = difference(trace, record) or _window(trace, record)
    return found or f"{name} of {_given(trace, record)}: {message}"


def difference(trace: Trace, record: OpRecord) -> str:
    """Say in which sizes the operands of a refused operation differ; "" if that is not why."""
    if not record.tensors:
        return ""
    base = record.name.rpartition(".")[0] or record.name
    rules: dict[str, Callable[[Trace, OpRecord], str]] = {
        **dict.fromkeys(_VIEWS, _view),
        **dict.fromkeys(_PRODUCTS, _product),
        "aten.cat": _cat,
        "aten.stack": _cat,
    }
    return rules.get(base, _elementwise)(trace, record)


def uncastable(trace: Trace) -> tuple[str, str]:
    """Explain a write of numbers that the dtype of their tensor cannot hold, with the remedy."""
    record = trace.broken.operation if trace.broken is not None else None
    if record is None or not record.tensors or not _CAST.search(_message(trace)):
        return "", ""
    dtypes = [trace.tensors[t].dtype for t in record.tensors]
    makers = [breaks.made_by(trace, t) for t in record.tensors]
    given = " and ".join(map("{} from {}".format, dtypes[:_MANY], makers))
    name, made = function(record.name), re.search(r"torch\.(\w+)", _message(trace))
    what = f"a result of {made[1]}" if made else "the result"
    if name.endswith("_"):
        remedy = "not in place (x = x + y) it makes a tensor of the wider dtype"
        return f"{name} of {given}, in place: {what} does not fit {dtypes[0]}", remedy
    return f"{name} of {given}, its out: {what} does not fit {dtypes[-1]}", "leave out= out"


def one_dtype(trace: Trace) -> str:
    """The dtype of all operands of what raised; "" where they differ, or are not known."""
    record = trace.broken.operation if trace.broken is not None else None
    dtypes = {trace.tensors[t].dtype for t in record.tensors} if record is not None else set()
    return dtypes.pop() if len(dtypes) == 1 else ""


def _message(trace: Trace) -> str:
    return trace.broken.message if trace.broken is not None else ""


def held(trace: Trace, record: OpRecord) -> str:
    """The size that a view would have to be to: "400 must be 576 for this input"; "" if unclear."""
    size, shape = record.attributes.get("size"), _shapes(trace, record)[0]
    base = record.name.rpartition(".")[0]
    if base not in _VIEWS or not isinstance(size, tuple) or len(size) != 2 or len(shape) < 2:
        return ""
    first, last = size
    wanted = math.prod(shape[1:])
    keeps = first in (-1, shape[0]) and isinstance(last, int) and last not in (-1, wanted)
    if not keeps or not isinstance(last, int):
        return ""
    also = _as_wide(trace, last)
    return f"{last} must be {wanted} for this input" + (f", and in_features of {also}" * bool(also))


def _as_wide(trace: Trace, width: int) -> str:
    """The first linear layer of a width among those that a forward had not come to; "" for none."""
    called = {call.module for call in trace.calls}
    waiting = (m for index, m in enumerate(trace.modules) if index not in called)
    layers = (m.path for m in waiting if m.base == "Linear" and m.hyper.get("in_features") == width)
    return next(layers, "")


def projected(trace: Trace, record: OpRecord) -> str:
    """The 1x1 convolution that gives one operand of a sum the shape of the other; "" if none does.

    It is made, and run without data.
    """
    base = record.name.rpartition(".")[0]
    if base.rstrip("_") not in ("aten.add", "aten.sub", "aten.mul") or len(record.tensors) != 2:
        return ""
    sizes = _shapes(trace, record)
    large, small = (0, 1) if math.prod(sizes[0][2:]) >= math.prod(sizes[1][2:]) else (1, 0)
    one, other = sizes[large], sizes[small]
    if len(one) != len(other) or len(one) not in (3, 4, 5) or one[0] != other[0] or one == other:
        return ""
    if math.prod(other[2:]) == 1 < math.prod(one[2:]):
        return ""  # a gate of each channel
    strides = {-(-a // b) if b else 0 for a, b in zip(one[2:], other[2:], strict=True)}
    if len(strides) != 1 or 0 in strides:
        return ""
    stride = strides.pop()
    kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(one)]
    made = kind(one[1], other[1], 1, stride, device="meta")(torch.empty(one, device="meta"))
    if tuple(made.shape) != other:
        return ""
    who = breaks.made_by(trace, record.tensors[large])
    name = "1x1" if len(one) == 4 else "x".join("1" * (len(one) - 2))
    strided = f" of stride {stride}" if stride > 1 else ""
    return (
        f"a {name} convolution{strided} from {one[1]} to {other[1]} channels gives {who} the shape "
        f"{_sizes(other)}"
    )


def _view(trace: Trace, record: OpRecord) -> str:
    size = record.attributes.get("size")
    sizes = [n for n in size if isinstance(n, int)] if isinstance(size, tuple) else []
    if not sizes or len(record.tensors) != 1:
        return ""
    shape = _shapes(trace, record)[0]
    given, known = math.prod(shape), math.prod(n for n in sizes if n != -1)
    what = f"{function(record.name)} of {_given(trace, record)} to {_sizes(sizes)}"
    if given % known == 0 if -1 in sizes else given == known:
        return ""  # it is not the number of elements
    if -1 in sizes:
        return f"{what}: its {given:,} elements are not a multiple of {known:,}"
    return f"{what}: it has {given:,} elements, not {known:,}"


def _product(trace: Trace, record: OpRecord) -> str:
    """A matrix product; the bias of one with a bias comes first."""
    tensors = record.tensors[-2:]
    if len(tensors) != 2:
        return ""
    a, b = (trace.tensors[t].shape for t in tensors)
    names = f"{function(record.name)} of {_both(trace, tensors)}"
    if len(a) < 1 or len(b) < 2:
        return ""
    if a[-1] != b[-2]:
        return f"{names}: the inner sizes are {a[-1]} and {b[-2]}"
    return _unequal(names, a[:-2], b[:-2])


def _cat(trace: Trace, record: OpRecord) -> str:
    """A concatenation, along whose dimension sizes may differ."""
    along = record.attributes.get("dim", 0)
    given = _shapes(trace, record)
    first = given[0]
    other = next((s for s in given if len(s) != len(first)), None)
    names = f"{function(record.name)} of {_given(trace, record)}"
    if other is not None:
        return f"{names}: they have {len(first)} and {len(other)} dimensions"
    free = along % len(first) if isinstance(along, int) and first and "cat" in record.name else -1
    apart = [
        f"{_axis(len(first), i)} ({' and '.join(map(str, dict.fromkeys(sizes)))})"
        for i, sizes in enumerate(zip(*given, strict=True))
        if i != free and len(set(sizes)) > 1
    ]
    where = f" along {_axis(len(first), free)}" if free >= 0 else ""
    return f"{names}{where}: they differ in {_and(apart)}" if apart else ""


def _elementwise(trace: Trace, record: OpRecord) -> str:
    """Two operands that do not broadcast; indices do among themselves."""
    if not _BROADCAST.search(_message(trace)):
        return ""
    what = f"{function(record.name)} of {_given(trace, record)}"
    looks_up = table.lookup(record.name).family is table.Family.LOOKUP
    pairs = combinations(_shapes(trace, record)[looks_up:], 2)
    return next(filter(None, (_unequal(what, a, b) for a, b in pairs)), "")


def _unequal(names: str, a: Shape, b: Shape) -> str:
    """Say in which dimensions, counted from the last, two shapes do not broadcast."""
    rank = max(len(a), len(b))
    pairs = list(zip_longest(reversed(a), reversed(b), fillvalue=1))[::-1]
    apart = [
        f"{_axis(rank, i)} ({m} and {n})"
        for i, (m, n) in enumerate(pairs)
        if m != n and 1 not in (m, n)
    ]
    return f"{names}: they differ in {_and(apart)}" if apart else ""


def _window(trace: Trace, record: OpRecord) -> str:
    """A window that is larger than what it slides over."""
    slide = shapes.of_op(trace, record) if "." in record.name else None
    if slide is None or slide.form not in ("convolution", "pool"):
        return ""
    shape = _shapes(trace, record)[0]
    if len(shape) <= slide.axes or min(slide.geometry.stride, default=1) < 1:
        return ""
    sizes = slide.predict(shape)[-slide.axes :]
    short = next((shapes.formula(slide, shape, i) for i, n in enumerate(sizes) if n < 1), "")
    what = f"{function(record.name)} of {_given(trace, record)}"
    return f"{what}: the input is too small, {short}" if short else ""


def _given(trace: Trace, record: OpRecord) -> str:
    more = f" and {len(record.tensors) - _MANY} more" if len(record.tensors) > _MANY else ""
    return _both(trace, record.tensors[:_MANY]) + more


def _both(trace: Trace, tensors: Sequence[int]) -> str:
    """`1x8x30x30 from conv1 and 1x16x14x14 from conv2`."""
    return " and ".join(
        f"{_sizes(trace.tensors[t].shape)} from {breaks.made_by(trace, t)}" for t in tensors
    )


def _shapes(trace: Trace, record: OpRecord) -> list[Shape]:
    return [trace.tensors[t].shape for t in record.tensors]


def _axis(rank: int, index: int) -> str:
    return _NAMES[rank][index] if rank in _NAMES else f"dimension {index}"


def _sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "a scalar"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""
