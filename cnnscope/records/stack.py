"""The report of `cnnscope stack`: stacks of small kernels against a large one."""

import msgspec

from cnnscope.records.bench import BenchReport
from cnnscope.records.summary import REPORT_SCHEMA, AxisField
from cnnscope.records.trace import Shape, TensorSpec


class StackRow(msgspec.Struct, frozen=True):
    """One way to see so many pixels: layers in the grammar of `cnnscope stack`, and what they cost.

    Weights come without biases: `weights` is square * C^2 + linear * C, where they are given.
    """

    name: str
    layers: str
    output: Shape
    field: tuple[AxisField, ...]
    read: tuple[int, int] | None  # positions of the field that are read: dilation leaves holes
    weights: int
    square: float | None
    linear: float | None
    macs: int
    flops: int
    element_ops: int
    activation_bytes: int  # everything that the forward allocates
    peak_activation_bytes: int
    nonlinearities: int
    convolutions: int


class StackReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope stack`: the first row is what the others are compared with.

    `branches` of an Inception block: name, weights naive and reduced, MACs naive and reduced.
    `timing` has a run for every row, without its single samples, and a comparison with the first
    for every other; None where nothing was measured.
    """

    kernel: int | None
    channels: int
    input: TensorSpec
    rows: tuple[StackRow, ...]
    asked: tuple[str, ...] = ()  # the user's own stacks among the rows
    block: str = ""
    branches: tuple[tuple[str, int, int, int, int], ...] = ()
    timing: "BenchReport | None" = None
    schema_version: int = REPORT_SCHEMA
