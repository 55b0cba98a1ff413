"""The reports of `cnnscope rf`: receptive fields computed, measured and effective."""

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA, AxisField, LayerRow
from cnnscope.records.trace import Source, TensorSpec


class FieldReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope rf`: how the receptive field grows, one row per layer.

    `blocks` are the modules around the layers; `parent` of either is an index among them.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[LayerRow, ...]
    exceeds_input_at: str  # first layer whose unclipped field is larger than the input
    covers_input_at: str  # from which on every unit of every layer sees the whole input
    unproductive: tuple[str, ...]
    unknown: tuple[str, ...]  # layers whose field is not known
    notes: tuple[str, ...] = ()
    blocks: tuple[LayerRow, ...] = ()
    schema_version: int = REPORT_SCHEMA


class UnitAxis(msgspec.Struct, frozen=True):
    """Receptive field of one unit along one axis: [first, last] in pixels, and cut to the input."""

    unit: int
    unclipped: tuple[int, int]
    clipped: tuple[int, int]
    centre: float  # of the unclipped interval
    input_size: int


class UnitReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope rf MODEL LAYER`: the pixels that one unit sees."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layer: LayerRow
    axes: tuple[UnitAxis, ...]
    global_context: bool  # it depends on the whole image as well
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class AxisCheck(msgspec.Struct, frozen=True):
    """Computed beside measured along one axis of the input.

    `how` it was measured: "interior" units of a canvas larger than the field, which says what is
    seen when nothing is clipped; at the "input" size, borders and all; or "whole", the part of the
    input that a function of the whole image sees. Intervals are [first, last] pixel of each of
    `units`; for "whole" the computed one is the smallest and largest extent that any unit has.
    """

    axis: int
    how: str
    canvas: int  # pixels along the axis
    units: tuple[int, ...]
    computed: tuple[tuple[int, int], ...]
    measured: tuple[tuple[int, int], ...]
    equal: bool


class LayerCheck(msgspec.Struct, frozen=True):
    """One layer's field, measured. `reason` says why it, or a part of it, could not be."""

    path: str
    call: int
    field: tuple[AxisField, ...]
    checks: tuple[AxisCheck, ...] = ()
    reason: str = ""
    verdict: str = ""  # what came of it: "equal", "differs" or "not measured"

    def __post_init__(self) -> None:
        """Judge what was measured."""
        verdict = "not measured" if self.reason or not self.checks else "equal"
        if any(not check.equal for check in self.checks):
            verdict = "differs"
        msgspec.structs.force_setattr(self, "verdict", verdict)

    @property
    def unknown(self) -> bool:
        """True if there was nothing to compare with."""
        return not self.field


class VerifyReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope rf --verify`: computed fields beside measured ones."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[LayerCheck, ...]
    total: (
        int  # layers that have a field; those that were not chosen have the field of one that was
    )
    fields: int  # different fields among them
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class EffectiveField(msgspec.Struct, frozen=True):
    """The effective receptive field of the centre unit of one layer, beside the theoretical one.

    `pixels` have a mean absolute input gradient above `EffectiveReport.threshold` of the largest;
    `size` is their number's square root (for d axes the d-th), `box` [first, last] of them per
    axis, `clipped` what the unit can see of the input at all.
    """

    path: str
    call: int
    unit: tuple[int, ...]
    field: tuple[AxisField, ...]
    clipped: tuple[tuple[int, int], ...]
    pixels: int = 0
    size: float = 0.0
    box: tuple[tuple[int, int], ...] = ()
    reason: str = ""  # why there is none


class EffectiveReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope rf --effective`."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[EffectiveField, ...]
    samples: int
    seed: int
    threshold: float
    total: int  # layers that have a field
    schema_version: int = REPORT_SCHEMA
