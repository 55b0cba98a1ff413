"""Cost of operations: MACs, element operations, and operations without a formula."""

from math import prod

from cnnscope.ops import table
from cnnscope.records.summary import UnknownOp
from cnnscope.records.trace import OpRecord, Trace

_ITEM_SIZE = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16,
    "float32": 4, "int32": 4, "uint32": 4, "uint64": 8, "complex32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
}  # fmt: skip


# Bits of types that are packed: of torch's quantised tables, and in a graph of ONNX, while a tensor
# of torch has a byte for each element of such a type.
_BITS = {"quint4x2": 4, "quint2x4": 2}
_BITS_OF_ONNX = {"uint4": 4, "int4": 4, "uint2": 2, "int2": 2}


def tensor_bytes(trace: Trace, tensor: int) -> int:
    """Bytes that a dense tensor of this shape and dtype takes."""
    record = trace.tensors[tensor]
    bits = _BITS.get(record.dtype)
    if bits is None and trace.source.source == "onnx":
        bits = _BITS_OF_ONNX.get(record.dtype)
    if bits is not None:
        return -(-prod(record.shape) * bits // 8)
    return prod(record.shape) * item_size(record.dtype)


def item_size(dtype: str) -> int:
    """Bytes of one element."""
    return _ITEM_SIZE.get(dtype, 1)


def notes(trace: Trace) -> tuple[str, ...]:
    """How complex numbers are counted, where there are any."""
    if not any(table.is_complex(trace, record) for record in trace.ops):
        return ()
    return ("one complex multiply-accumulate counts as 4 real ones (2 with a real number)",)


def unknown_ops(trace: Trace) -> tuple[UnknownOp, ...]:
    """Operations that the table has no entry for, most frequent first."""
    found: dict[str, list[OpRecord]] = {}
    for record in trace.ops:
        if table.lookup(record.name).kind is table.Kind.UNKNOWN:
            found.setdefault(record.name, []).append(record)
    return tuple(
        UnknownOp(name, len(records), trace.index.path(records[0]))
        for name, records in sorted(found.items(), key=lambda item: -len(item[1]))
    )
