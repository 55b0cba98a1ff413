"""The frozen records: the trace, which is all that is kept of a run, and the report made from it.

Everything here is plain data (strings, numbers, tuples, dicts) without torch, so that it can be
stored, compared, written by hand in a test, and read in the time Python takes to start.
Shapes are tuples in torch's order (N, C, H, W); sizes are bytes; ids are positions in the tuple
of the same name on `Trace`.
"""

import msgspec

TRACE_SCHEMA = 1
REPORT_SCHEMA = 1

Shape = tuple[int, ...]
Plain = bool | int | float | str | None
Attribute = Plain | tuple[Plain, ...]


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor that has no data: its shape and its dtype ("float32")."""

    shape: Shape
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"


class Inputs(msgspec.Struct, frozen=True):
    """What a forward is called with: one argument per tensor, or one list of all of them."""

    tensors: tuple[TensorSpec, ...]
    as_list: bool = False


class Source(msgspec.Struct, frozen=True):
    """Where a model came from: what the user typed, its arguments and the versions behind it."""

    spec: str
    source: str
    name: str
    arguments: dict[str, str] = {}  # as Python literals
    versions: dict[str, str] = {}


# ------------------------------------------------------------------------------- the trace


class ModuleRecord(msgspec.Struct, frozen=True):
    """An `nn.Module`: its dotted path ("" is the model), class, and documented hyper-parameters.

    `base` is the nearest class of `torch.nn` that it is made from ("" for a plain `Module`): a
    module whose base is its own class is the library's, and nobody wants to see inside.
    """

    path: str
    kind: str
    base: str = ""
    hyper: dict[str, Attribute] = {}

    @property
    def library(self) -> bool:
        """Whether this is a class of `torch.nn` itself."""
        return self.kind == self.base


class CallRecord(msgspec.Struct, frozen=True):
    """One execution of a module: a module that runs twice has two.

    `parent` is a call id or -1, `start` the id of the operation that ran next after it began.
    """

    module: int
    parent: int
    start: int = 0
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


class ParamRecord(msgspec.Struct, frozen=True):
    """A parameter or buffer. `tensor` is the id under which operations read it.

    Names that share one storage (tied weights) are one record with `aliases`. `used` tells
    whether any operation read it.
    """

    path: str
    tensor: int
    aliases: tuple[str, ...] = ()
    trainable: bool = True
    buffer: bool = False
    used: bool = True


class StorageRecord(msgspec.Struct, frozen=True):
    """Memory behind one or more tensors, alive from operation `born` until before `died`.

    Operation ids; `born` is -1 for what was there before the run, `died` the number of
    operations for what outlived it.
    """

    nbytes: int
    born: int
    died: int


class TensorRecord(msgspec.Struct, frozen=True):
    """A value, in static single assignment: an in-place operation makes a new one."""

    shape: Shape
    dtype: str
    storage: int


class OpRecord(msgspec.Struct, frozen=True):
    """One operation: its name ("aten.add_.Tensor"), the call that it ran in (or -1).

    `inputs` maps argument names to tensor ids (or tuples of them, None where one was left out),
    `attributes` the other arguments.
    """

    name: str
    inputs: dict[str, int | tuple[int | None, ...]]
    outputs: tuple[int, ...]
    attributes: dict[str, Attribute] = {}
    call: int = -1


class Trace(msgspec.Struct, frozen=True):
    """Everything that one forward of a model did, and nothing of torch."""

    source: Source
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    modules: tuple[ModuleRecord, ...]
    calls: tuple[CallRecord, ...]
    params: tuple[ParamRecord, ...]
    tensors: tuple[TensorRecord, ...]
    storages: tuple[StorageRecord, ...]
    ops: tuple[OpRecord, ...]
    device: str = "meta"
    notes: tuple[str, ...] = ()
    schema_version: int = TRACE_SCHEMA

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """Shape and dtype of every input."""
        return tuple(TensorSpec(self.tensors[t].shape, self.tensors[t].dtype) for t in self.inputs)


# ------------------------------------------------------------------------------ the report


class Geometry(msgspec.Struct, frozen=True):
    """How a layer slides over its input: one number per spatial axis (D, H, W order)."""

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
    units: int = 0  # along the axis; 0 where positions are not told apart
    clipped: tuple[int, int] = (0, 0)


class UnitMap(msgspec.Struct, frozen=True):
    """Which pixels each unit sees along one axis.

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

    `maps` has the local map of each axis, None where positions are not told apart.
    `global_context` says that everything also depends on a function of the whole image.
    """

    axes: tuple[AxisField, ...] = ()
    maps: tuple[UnitMap | None, ...] = ()
    global_context: bool = False
    unknown: bool = False


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


class Totals(msgspec.Struct, frozen=True):
    """Sums over the model. Bytes for memory; elements for parameters and buffers."""

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
    field: tuple[AxisField, ...] | None  # the largest that is not of the whole image
    field_exceeds_input_at: str  # first layer whose field is larger than the input
    conv_layers: int
    linear_layers: int
    operations: int


class UnknownOp(msgspec.Struct, frozen=True):
    """An operation without a formula: its costs are missing from every total."""

    name: str
    count: int
    first_layer: str


class ModelReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope summary`."""

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
    schema_version: int = REPORT_SCHEMA


class FieldReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope rf`: how the receptive field grows, one row per layer."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[LayerRow, ...]
    exceeds_input_at: str  # first layer whose unclipped field is larger than the input
    covers_input_at: str  # first layer every unit of which sees the whole input
    unproductive: tuple[str, ...]
    unknown: tuple[str, ...]  # layers whose field is not known
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class UnitAxis(msgspec.Struct, frozen=True):
    """What one unit sees along one axis: [first, last] in pixels, and cut to the input."""

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

    @property
    def verdict(self) -> str:
        """What came of it: "equal", "differs" or "not measured"."""
        if any(not check.equal for check in self.checks):
            return "differs"
        return "not measured" if self.reason or not self.checks else "equal"


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
