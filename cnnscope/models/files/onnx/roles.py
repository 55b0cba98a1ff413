"""What the tensors of a file are: parameters, buffers, or constants that came of folding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import torch

from cnnscope.models.files.onnx.graph import OnnxNode, Weight
from cnnscope.models.files.onnx.values import BYTES, dtype_of

WEIGHTED = {  # operators with weights: the names that these have, by the place of the input
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "com.microsoft.FusedConv": {1: "weight", 2: "bias"},
    "DeformConv": {1: "weight", 3: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {0: "weight", 1: "weight", 2: "bias"},
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "GroupNormalization": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "RMSNormalization": {1: "weight"},
    "PRelu": {1: "weight"},
    "LSTM": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
    "GRU": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
    "RNN": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
    "QLinearConv": {3: "weight", 8: "bias"},
    "QLinearMatMul": {3: "weight"},
    "com.microsoft.QGemm": {3: "weight", 6: "bias"},
    "ConvInteger": {1: "weight"},
    "MatMulInteger": {1: "weight"},
    # of onnxruntime, whose cost is not known here: their weights are all the same
    "com.microsoft.DynamicQuantizeLSTM": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
    "com.microsoft.DynamicQuantizeMatMul": {1: "weight", 4: "bias"},
    "com.microsoft.MatMulIntegerToFloat": {1: "weight", 6: "bias"},
    "com.microsoft.MatMulNBits": {1: "weight", 5: "bias"},
    "com.microsoft.QAttention": {1: "weight", 2: "bias"},
}
# Places of inputs that are no weights: statistics, scales and zero points, bounds, sizes.
_SETTINGS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "com.microsoft.QuantizeLinear": (1, 2),
    "com.microsoft.DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "com.microsoft.QGemm": (1, 2, 4, 5, 7, 8),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "com.microsoft.DynamicQuantizeLSTM": (8, 9, 10, 11),
    "com.microsoft.DynamicQuantizeMatMul": (2, 3),
    "com.microsoft.MatMulIntegerToFloat": (2, 3, 4, 5),
    "com.microsoft.MatMulNBits": (2, 3, 4),
    "com.microsoft.QAttention": (3, 4, 6, 7),
}
_ARGUMENTS = {  # places of numbers that PyTorch's functions take as arguments, and keep nowhere
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Dropout": (1, 2),
}
_QUANTISED = {  # places where integers are weights
    "DequantizeLinear": (0,),
    "com.microsoft.DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "com.microsoft.QGemm": (3, 6),
    "ConvInteger": (1,),
    "MatMulInteger": (0, 1),
    "com.microsoft.DynamicQuantizeLSTM": (1, 2),
    "com.microsoft.DynamicQuantizeMatMul": (1,),
    "com.microsoft.MatMulIntegerToFloat": (0, 1),
    "com.microsoft.MatMulNBits": (1,),
    "com.microsoft.QAttention": (1,),
    "Cast": (0,),
    "Gather": (0,),
}
_FOLDED = re.compile(r"val_\d+|.*_output_\d+|.*Constant.*|scalar_tensor\w*|.*/.*")
_PASSED = frozenset(("Identity", "Transpose", "Cast", "Reshape", "DequantizeLinear"))


class Role(Enum):
    """What a tensor of the file is."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    CONSTANT = "constant"  # no part of the model's state: a single number, sizes, axes


class Use(NamedTuple):
    """One place where a value is read."""

    node: OnnxNode
    place: int


def uses_of(nodes: Sequence[OnnxNode]) -> Mapping[str, list[Use]]:
    """Where every value is read, in order."""
    found: dict[str, list[Use]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            if name:
                found.setdefault(name, []).append(Use(node, place))
    return found


def role_of(weight: Weight, uses: Mapping[str, list[Use]], *, by_torch: bool) -> Role:
    """What a tensor is, by its type, its name and where it is read.

    Args:
        weight: the tensor.
        uses: of every value.
        by_torch: whether PyTorch's exporter wrote the file, which gives parameters their own names
            and what it has folded another.
    """
    found = uses.get(weight.name, [])
    dtype = dtype_of(weight.data_type)
    single = all(size == 1 for size in weight.shape)
    if not (dtype.is_floating_point or dtype.is_complex):
        narrow = dtype in (torch.int8, torch.uint8, *BYTES) or not single
        weighs = any(use.place in _QUANTISED.get(use.node.kind, ()) for use in found)
        if weighs and narrow and dtype not in (torch.int64, torch.bool):
            return Role.PARAMETER
        return Role.CONSTANT if weight.array is not None else Role.BUFFER
    if _reads_all(found, {**_SETTINGS, **_ARGUMENTS}):
        plain = single or _reads_all(found, _ARGUMENTS)
        return Role.CONSTANT if plain and weight.array is not None else Role.BUFFER
    folded = by_torch and bool(_FOLDED.fullmatch(weight.name))
    layers = [u for u in through(found, uses) if u.place in WEIGHTED.get(u.node.kind, {})]
    # a group norm is written as an instance norm with ones and zeros
    if layers and not (folded and all(use.node.op == "InstanceNormalization" for use in layers)):
        return Role.PARAMETER
    if single and (folded or "." not in weight.name):
        return Role.CONSTANT if weight.array is not None else Role.BUFFER
    return Role.BUFFER if folded else Role.PARAMETER


def _reads_all(found: Sequence[Use], places: Mapping[str, tuple[int, ...]]) -> bool:
    """Return True if a value is read, and at such places alone."""
    return bool(found) and all(use.place in places.get(use.node.kind, ()) for use in found)


def name_of(name: str, uses: Mapping[str, list[Use]]) -> str:
    """What a weight is called by the layer that reads it, "" where that has no name for it."""
    for use in through(uses.get(name, []), uses):
        if called := WEIGHTED.get(use.node.kind, {}).get(use.place):
            return called
    return ""


def through(found: Sequence[Use], uses: Mapping[str, list[Use]]) -> Iterator[Use]:
    """Where a value is read, and where what only moves or dequantises it is."""
    for use in found:
        yield use
        if moves(use.node) and not use.place:
            for name in use.node.outputs:
                yield from uses.get(name, [])


def moves(node: OnnxNode) -> bool:
    """Return True for a node that gives its first input another form, and computes nothing."""
    return node.op in _PASSED
