"""The report of `cnnscope sweep`: the cost of a model as a function of a choice."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from cnnscope.records.bench import BenchReport
from cnnscope.records.step import Step
from cnnscope.records.summary import REPORT_SCHEMA, AxisField
from cnnscope.records.trace import Shape, Source, TensorSpec

Quantity = Literal["params", "macs", "peak_activation_bytes", "training_bytes", "median_ns"]


class SweepRow(msgspec.Struct, frozen=True):
    """The costs at one choice.

    Attributes:
        values: what was chosen, in the order of `SweepReport.varied`.
        inputs: that the model ran on.
        params: elements of all parameters.
        macs: multiply-accumulates of a forward.
        element_ops: of a forward.
        activation_bytes: everything that the forward allocates.
        peak_activation_bytes: the most that is alive at once.
        output: shape of the first output.
        field: receptive field of the model's last map; None where it has none or it is not known.
        training_bytes: the peak of tensors of a training step; None where it was not asked for.
        unknown: operations without a formula, whose costs are missing.
        failed: why the model does not run so, "" where it does; all costs are 0 then.
        at: the number that `SweepReport.by` names; None where there is none.
    """

    values: tuple[str, ...]
    inputs: tuple[TensorSpec, ...] = ()
    params: int = 0
    macs: int = 0
    element_ops: int = 0
    activation_bytes: int = 0
    peak_activation_bytes: int = 0
    output: Shape = ()
    field: tuple[AxisField, ...] | None = None
    training_bytes: int | None = None
    unknown: int = 0
    failed: str = ""
    at: float | None = None


class Growth(msgspec.Struct, frozen=True):
    """How a cost grows with the choice, by least squares over three choices or more.

    Attributes:
        quantity: which cost.
        by: what x is: "side" (of a shape that keeps its proportions), "length", "height" ...,
            "batch size", or the name of an argument.
        power: p of y = c * x^p, fitted to the logarithms.
        deviation: the largest |y / fitted - 1|.
        first: the power between the two smallest x.
        last: the power between the two largest x.
        offset: a of y = a + b * x^n; None where not all choices lie on such a line above 0.
        slope: b.
        line_deviation: the largest |y / fitted - 1| of the line.
        exponent: n: 1, 2 or 3, the smallest that fits.
        lowest: the lowest power between neighbours.
        highest: the highest power between neighbours.
        ratio: the largest y over the smallest.
    """

    quantity: Quantity
    by: str
    power: float
    deviation: float
    first: float
    last: float
    offset: float | None = None
    slope: float | None = None
    line_deviation: float | None = None
    exponent: int | None = None
    lowest: float = 0.0
    highest: float = 0.0
    ratio: float = 1.0


class SweepReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope sweep`.

    `varied` names what was chosen ("input", "batch size", arguments of the constructor), `by` the
    number that the first of these is, as `Growth.by` does, "" where it is none. `timing`
    has a run for each row that did not fail, in order, without its single samples.
    """

    source: Source
    device: str
    varied: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    growth: tuple[Growth, ...] = ()
    step: Step | None = None
    timing: BenchReport | None = None
    notes: tuple[str, ...] = ()
    by: str = ""
    schema_version: int = REPORT_SCHEMA


def called(varied: Sequence[str], values: Sequence[str]) -> str:
    """Name a choice: "input 64, batch size 8"."""
    return ", ".join(f"{what} {value}" for what, value in zip(varied, values, strict=True))
