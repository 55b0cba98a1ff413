"""Number types: parameters, and multiply-accumulates by what their operands were before.

A quantised network computes with integers of 8 bits, although its graph may say so in numbers: an
operand is dequantised (or made wider, and its zero point subtracted) right before the product, and
kernels for devices multiply the integers themselves. So operands are followed back to the values
that they were made from.
"""

from cnnscope.analysis import params
from cnnscope.ops import table
from cnnscope.records.trace import OpRecord, Trace

NARROW = tuple("int8 uint8 quint8 qint8 int4 uint4 int2 uint2 quint4x2 quint2x4".split())
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_DEEPEST = 12  # operations between an integer and the product
_DEQUANTISE = frozenset(
    "quantized_decomposed.dequantize_per_tensor quantized_decomposed.dequantize_per_channel "
    "quantized_decomposed.dequantize_per_token quantized_decomposed.dequantize_per_channel_group "
    "torchao.dequantize_affine dequantize".split()
)
# What leaves integers the numbers that they are, on the way from a narrow type to a product.
_KEEPS = frozenset(
    "_to_copy sub view _unsafe_view reshape permute transpose t expand clone unsqueeze squeeze "
    "slice select constant_pad_nd cat alias detach".split()
)
_QUANTISED = (
    table.Family.QUANTISED_CONVOLUTION,
    table.Family.QUANTISED_LINEAR,
    table.Family.QUANTISED_RECURRENT,
)
_ADDED = frozenset("bias attn_bias attn_mask".split())


def parameters(trace: Trace, *, buffers: bool = False) -> dict[str, int]:
    """Elements of distinct parameters (or buffers) by their type, most first."""
    found: dict[str, int] = {}
    for param in trace.params:
        if param.buffer == buffers:
            dtype = trace.tensors[param.tensor].dtype
            found[dtype] = found.get(dtype, 0) + params.numel(trace, param)
    return _most_first(found)


def macs(trace: Trace) -> dict[str, int]:
    """Multiply-accumulates by the type of their operands, most first.

    Those of two integers of 8 bits are "int8", signed or not. Of operands of different types the
    wider one counts: weights of 8 bits that meet numbers are multiplied as numbers.
    """
    found: dict[str, int] = {}
    for record in trace.ops:
        entry = table.lookup(record.name)
        if entry.multiplies and (count := table.macs(trace, record)):
            kind = _of_packed(record) if entry.family in _QUANTISED else _widest(trace, record)
            found[kind] = found.get(kind, 0) + count
    return _most_first(found)


def _most_first(found: dict[str, int]) -> dict[str, int]:
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _of_packed(record: OpRecord) -> str:
    """Weights that are kept in 16 bits meet numbers of 32, and are multiplied as these."""
    half = "fp16" in f"{record.name} {record.attributes.get('params')}"
    return "float32" if half else "int8"


def _widest(trace: Trace, record: OpRecord) -> str:
    """The type of the widest operand, those that are added left out."""
    plain = _ADDED | ({"self"} if {"mat1", "batch1"} & record.inputs.keys() else set())
    kinds = [_origin(trace, tensor) for name, tensor in record.arguments() if name not in plain]
    wide = [kind for kind in kinds if kind not in NARROW]
    order = [*_FLOATS, *sorted(set(wide) - set(_FLOATS))]
    return max(wide, key=order.index) if wide else "int8"


def _origin(trace: Trace, tensor: int) -> str:
    """The type that the numbers of an operand had before they were made wider."""
    dtype, at = trace.tensors[tensor].dtype, tensor
    for _ in range(_DEEPEST):
        maker = trace.index.maker.get(at)
        if trace.tensors[at].dtype in NARROW:
            return trace.tensors[at].dtype
        if maker is None:
            return dtype
        record = trace.ops[maker]
        base = table.base_name(record.name)
        if base not in _DEQUANTISE and base not in _KEEPS:
            return dtype
        at = record.tensors[0]
    return dtype
