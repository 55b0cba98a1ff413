"""The report of `cnnscope summary`: one row per layer, totals, and receptive fields."""

import msgspec

from cnnscope.records.findings import Finding
from cnnscope.records.trace import Shape, Source, TensorSpec

REPORT_SCHEMA = 1
# Modules that only hold others.
CONTAINERS = frozenset(("Sequential", "ModuleList", "ModuleDict"))


class Geometry(msgspec.Struct, frozen=True):
    """Geometry of a layer that slides over its input: one number per spatial axis (D, H, W)."""

    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    ceil_mode: bool = False


class AxisField(msgspec.Struct, frozen=True):
    """The receptive field of a tensor along one axis of the input, in input pixels, unclipped.

    `size` is what one unit sees (the largest, where units differ: see `sizes`), None for the
    whole axis. `local_size` leaves out what only depends on the whole image (squeeze-excite);
    None where there is nothing else. A unit u begins at u*stride - padding (Araujo, Norris, Sim
    2019); padding is None where the map is not of this form. `min_size` is the field of the
    shortest path. `clipped` are the smallest and largest field of all units within the input.
    """

    size: int | None
    local_size: int | None
    min_size: int | None
    stride: int | float | None = None
    padding: int | None = None
    sizes: tuple[int, ...] = ()
    aligned: bool = True  # all units see equally many pixels, evenly spaced
    explicit: bool = False  # not regular: true of this input size only
    input_size: int = 0  # pixels along the axis
    units: int = 0  # along the axis; 0 where positions are not distinguished
    clipped: tuple[int, int] = (0, 0)


class UnitMap(msgspec.Struct, frozen=True):
    """Pixels that each unit sees along one axis.

    Unclipped: unit q*period + j sees [q*step + first[j], q*step + last[j]]; empty where the map
    has no regular form. Clipped: unit u sees [lo[u], hi[u]], without taps in padding; hi < lo
    for a unit that sees nothing.
    """

    lo: tuple[int, ...]
    hi: tuple[int, ...]
    step: int = 0
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    def unclipped(self, unit: int) -> tuple[int, int]:
        """First and last pixel, those outside the image included."""
        if not self.first:
            return self.lo[unit], self.hi[unit]
        turns, phase = divmod(unit, len(self.first))
        return turns * self.step + self.first[phase], turns * self.step + self.last[phase]


class Field(msgspec.Struct, frozen=True):
    """The receptive field of a tensor, for every axis of the input (D, H, W order).

    `maps` has the local map of each axis, None where positions are not distinguished.
    `global_context` says that everything also depends on a function of the whole image.
    """

    axes: tuple[AxisField, ...] = ()
    maps: tuple[UnitMap | None, ...] = ()
    global_context: bool = False
    unknown: bool = False
    reason: str = ""  # why it is unknown


RowKey = tuple[str, str, int, int]  # kind, path, number of the call, tensor


class LayerRow(msgspec.Struct, frozen=True):
    """One row of the summary: a module call, an operation run by a module, or bare parameters.

    Costs include everything inside the row. Parameters are counted where they are first met, so
    the rows of one depth never count a weight twice.
    """

    path: str
    name: str
    depth: int
    kind: str  # "module", "operation" or "parameter"
    operation: str
    parent: int  # index of the enclosing row, -1 for the model itself
    call: int = 1  # 2 when the same module runs for the second time
    geometry: Geometry | None = None
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    expected_output: Shape | None = None  # by the floor formula, from hyper-parameters alone
    features: tuple[int, int] | None = None  # channels (or features) in and out
    params: int = 0
    trainable_params: int = 0
    buffers: int = 0
    macs: int = 0
    element_ops: int = 0
    activation_bytes: int = 0
    unknown_ops: int = 0
    field: tuple[AxisField, ...] | None = None  # of the first output; None: sees no input
    field_unknown: bool = False
    unproductive: bool = False  # slides over units whose shortest path has seen the whole image
    tensor: int = -1  # id in the trace of the first output
    leaf: bool = True
    minor: bool = False  # only moves data, does nothing, or keeps books (integers, single numbers)
    fails: bool = False  # the forward raised in it; it and the rows around it have no output

    @property
    def key(self) -> RowKey:
        """What tells the rows of one summary apart."""
        return self.kind, self.path, self.call, self.tensor


class Totals(msgspec.Struct, frozen=True):
    """Sums over the model. Bytes for memory; elements for parameters and buffers.

    Multiply-accumulates of two integers of 8 bits are "int8" in `macs_by_dtype`, whatever type the
    graph has them in.
    """

    params: int
    trainable_params: int
    frozen_params: int
    unused_params: int
    shared_params: int  # what would be added if tied weights were counted once per name
    param_bytes: int
    buffers: int
    buffer_bytes: int
    macs: int
    flops: int
    element_ops: int
    input_bytes: int
    activation_bytes: int  # everything that the forward allocates, freed or not
    peak_activation_bytes: int
    peak_layer: str
    field: tuple[AxisField, ...] | None  # the largest; all of an axis only where no layer sees less
    field_exceeds_input_at: str  # first layer whose field is larger than the input
    field_covers_input_at: str  # from which on every unit of every layer sees the whole input
    conv_layers: int
    linear_layers: int
    operations: int
    recurrent_layers: int = 0  # one for each layer and direction
    params_by_dtype: dict[str, int] = {}
    buffers_by_dtype: dict[str, int] = {}
    macs_by_dtype: dict[str, int] = {}


class UnknownOp(msgspec.Struct, frozen=True):
    """An operation without a formula: its costs are missing from every total."""

    name: str
    count: int
    first_layer: str


class Failed(msgspec.Struct, frozen=True):
    """Where and why a forward raised.

    `path` and `operation` are those of the row that fails: "" and a class for the model itself.
    `inputs` are the shapes that it was given, `made_by` the layers that made them. `error` is the
    type of the exception, `message` its text. `cause` says it in words, `remedy` what would run:
    "" where nothing is known.
    """

    path: str
    operation: str
    call: int = 1  # 2 when the same module runs for the second time
    inputs: tuple[Shape, ...] = ()
    made_by: tuple[str, ...] = ()
    error: str = ""
    message: str = ""
    line: str = ""  # of the model's code: net.py:12
    expression: str = ""  # that raised there
    cause: str = ""
    remedy: str = ""


class ModelReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope summary`.

    With `failed`, the forward raised: `layers` are what ran before that, every total but
    parameters and buffers (which are the whole model's) is a sum up to there, and `unused` are
    parameters that it did not come to.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[LayerRow, ...]
    totals: Totals
    unused: dict[str, int] = {}  # module or parameter path -> parameters that nothing read
    shared: dict[str, tuple[str, ...]] = {}  # parameter path -> its other names
    unknown: tuple[UnknownOp, ...] = ()
    mismatches: tuple[str, ...] = ()  # layers whose shape the floor formula does not give
    notes: tuple[str, ...] = ()
    unregistered: dict[str, int] = {}  # weight that is no parameter of the model -> its elements
    decided_by: tuple[str, ...] = ()  # "data", "random": another run may take another path
    findings: tuple[Finding, ...] = ()  # what a reviewer would say, by severity and place
    failed: Failed | None = None
    schema_version: int = REPORT_SCHEMA


class Excess(msgspec.Struct, frozen=True):
    """A limit that is not kept. `value` and `limit` are elements, MACs, bytes or pixels.

    `where` is the layer that has most of it, with `share` of it; for memory the layer at its peak.
    """

    limit_name: str
    limit: float
    value: int | None  # None where it is not known
    where: str = ""
    share: int = 0
