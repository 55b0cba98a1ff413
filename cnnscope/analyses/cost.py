"""What the operations cost: MACs, element operations, and what no formula is known for."""

from math import prod

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
    return prod(record.shape) * _ITEM_SIZE.get(record.dtype, 1)


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


def weight_layers(trace: Trace) -> tuple[int, int]:
    """How many convolutions and how many linear layers ran, each weight counted once.

    Returns:
        (convolutions, linear layers). VGG-11 has 8 and 3 (Simonyan and Zisserman 2014, Table 1).
    """
    weights = {trace.tensors[p.tensor].storage: p for p in trace.params if not p.buffer}
    convolutions: set[object] = set()
    linear: set[object] = set()
    for record in trace.ops:
        entry = ops.lookup(record.name)
        if entry is None or entry.kind is not ops.Kind.PRODUCT:
            continue
        convolves = entry.macs is ops.convolution or entry.macs is ops.deformable_convolution
        read = [
            weights[storage].path
            for name, tensor in record.inputs.items()
            if isinstance(tensor, int) and name not in ("bias", "input")
            if (storage := trace.tensors[tensor].storage) in weights
            and len(trace.tensors[weights[storage].tensor].shape) > 1
        ]
        if convolves:
            convolutions.update(read or [("call", record.call)])
        elif read:
            linear.update(read)
        elif record.call >= 0 and trace.modules[trace.calls[record.call].module].base == "Linear":
            linear.add(("module", trace.calls[record.call].module))  # its weight is computed
    return len(convolutions), len(linear)
