"""What the operations cost: MACs, element operations, and what no formula is known for."""

from collections.abc import Hashable
from math import prod
from typing import NamedTuple

from cnnscope import ops
from cnnscope.records import OpRecord, Trace, UnknownOp

_ITEM_SIZE = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16,
    "float32": 4, "int32": 4, "uint32": 4, "uint64": 8, "complex32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
}  # fmt: skip


def tensor_bytes(trace: Trace, tensor: int) -> int:
    """Bytes that a dense tensor of this shape and dtype takes."""
    record = trace.tensors[tensor]
    return prod(record.shape) * item_size(record.dtype)


def item_size(dtype: str) -> int:
    """Bytes of one element."""
    return _ITEM_SIZE.get(dtype, 1)


def op_path(trace: Trace, record: OpRecord) -> str:
    """Dotted path of the module that ran an operation."""
    return trace.modules[trace.calls[record.call].module].path if record.call >= 0 else ""


def unknown_ops(trace: Trace) -> tuple[UnknownOp, ...]:
    """Operations that the table has no entry for, most frequent first."""
    found: dict[str, list[OpRecord]] = {}
    for record in trace.ops:
        if ops.lookup(record.name) is None:
            found.setdefault(record.name, []).append(record)
    return tuple(
        UnknownOp(name, len(records), op_path(trace, records[0]))
        for name, records in sorted(found.items(), key=lambda item: -len(item[1]))
    )


class WeightOp(NamedTuple):
    """An operation that is a weight layer: a convolution, or a product with a matrix of weights."""

    op: int  # its place in the trace
    convolution: bool
    weights: tuple[Hashable, ...]  # what tells its weights from others


def weight_layers(trace: Trace) -> tuple[int, int]:
    """How many convolutions and how many linear layers ran, each weight counted once.

    Returns:
        (convolutions, linear layers). VGG-11 has 8 and 3 (Simonyan and Zisserman 2014, Table 1).
    """
    found = weight_ops(trace)
    convolutions = {weight for op in found if op.convolution for weight in op.weights}
    linear = {weight for op in found if not op.convolution for weight in op.weights}
    return len(convolutions), len(linear)


def weight_ops(trace: Trace) -> tuple[WeightOp, ...]:
    """The weight layers in the order in which they ran, those that ran again among them."""
    weights = {trace.tensors[p.tensor].storage: p for p in trace.params if not p.buffer}
    found: list[WeightOp] = []
    for index, record in enumerate(trace.ops):
        entry = ops.lookup(record.name)
        if entry is None or entry.kind is not ops.Kind.PRODUCT:
            continue
        convolves = entry.macs is ops.convolution or entry.macs is ops.deformable_convolution
        read: tuple[Hashable, ...] = tuple(
            weights[storage].path
            for name, tensor in record.inputs.items()
            if isinstance(tensor, int) and name not in ("bias", "input")
            if (storage := trace.tensors[tensor].storage) in weights
            and len(trace.tensors[weights[storage].tensor].shape) > 1
        )
        if not read and convolves:
            read = (("call", record.call),)
        elif not read and _in_linear(trace, record):
            read = (("module", trace.calls[record.call].module),)  # its weight is computed
        if read:
            found.append(WeightOp(index, convolves, read))
    return tuple(found)


def _in_linear(trace: Trace, record: OpRecord) -> bool:
    return record.call >= 0 and trace.modules[trace.calls[record.call].module].base == "Linear"
