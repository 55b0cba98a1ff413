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
Run = tuple[int, int]  # the first and last of consecutive numbers
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
    `registered` is False for one that ran and is no part of the model: held in a plain list or in
    a closure, or made by the forward.
    """

    path: str
    kind: str
    base: str = ""
    hyper: dict[str, Attribute] = {}
    registered: bool = True

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
    """Everything that one forward of a model did, and nothing of torch.

    `as_list`: forward was given its inputs in a list, as torchvision's detectors want their images.
    `strays` are weights that were read and are no parameters of the model. `decided_by` has "data"
    and "random" where Python has looked at either, so that another run may take another path.
    `within` are the calls of parametrizations, whose operations and parameters are those of the
    layer around them (`parent`); their `start` is the number of `calls` that began before.
    """

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
    as_list: bool = False
    strays: tuple[ParamRecord, ...] = ()
    decided_by: tuple[str, ...] = ()
    within: tuple[CallRecord, ...] = ()
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
    reason: str = ""  # why it is unknown


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
    field: tuple[AxisField, ...] | None  # the largest; all of an axis only where no layer sees less
    field_exceeds_input_at: str  # first layer whose field is larger than the input
    field_covers_input_at: str  # first layer every unit of which sees the whole input
    conv_layers: int
    linear_layers: int
    operations: int
    recurrent_layers: int = 0  # one for each layer and direction


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
    unregistered: dict[str, int] = {}  # weight that is no parameter of the model -> its elements
    decided_by: tuple[str, ...] = ()  # "data", "random": another run may take another path
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
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class About(msgspec.Struct, frozen=True):
    """What a library says of a model: its family, its task, and the published top-1 accuracy.

    The accuracy is in percent, of the best weights published for the input size that the model is
    traced at; None where there are none.
    """

    family: str
    task: str = "classification"
    top1: float | None = None


class Card(msgspec.Struct, frozen=True):
    """A model in one line. `field` is the largest, one per axis, None for all of an axis."""

    name: str
    source: str
    about: About
    inputs: tuple[TensorSpec, ...]
    params: int
    macs: int
    element_ops: int
    peak_activation_bytes: int
    field: tuple[int | None, ...] | None
    weight_layers: int


class Listed(msgspec.Struct, frozen=True):
    """A model in the list; `best` where no other is at least as good in both, one better.

    `card` is None where the model could not be traced, and `failed` says why.
    """

    source: str
    name: str
    card: Card | None
    failed: str = ""
    best: bool = False


class ListReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope list`."""

    models: tuple[Listed, ...]
    sort: str  # "" for by family
    pareto: tuple[str, str] | None = None
    schema_version: int = REPORT_SCHEMA


# -------------------------------------------------------------------------------- the diff


class Change(msgspec.Struct, frozen=True):
    """One hyper-parameter (or "operation", "params") that two layers do not share."""

    what: str
    before: Attribute
    after: Attribute


class DiffRow(msgspec.Struct, frozen=True):
    """Two rows that belong together, or one without a partner.

    `status`: "same"; "resized" (the same layer on other data: other map sizes, channels, batch or
    dtype); "changed" (the layer itself, or one inside it); "added"; "removed". Costs are
    differences, after less before, and include everything inside the row.
    """

    status: str
    depth: int
    parent: int  # index of the enclosing row, -1 for the models themselves
    before: LayerRow | None
    after: LayerRow | None
    changes: tuple[Change, ...] = ()
    params: int = 0
    macs: int = 0
    element_ops: int = 0
    activation_bytes: int = 0

    @property
    def row(self) -> LayerRow:
        """What stands for both: the later one where there is one."""
        row = self.after or self.before
        if row is None:
            raise ValueError("a row of neither model")
        return row


class Finding(msgspec.Struct, frozen=True):
    """A difference as a person would say it; `about` tells which fields have a meaning.

    "blocks": `subject` repeats `before` and `after` (counts, container by container).
    "added", "removed": `count` layers of kind `subject` at `paths`, which hold `params`.
    "changed": `what` of `count` layers of kind `subject`, from `before` to `after` (one value for
    each distinct change, in order of appearance).
    "moved": `what` went from layer `before` to layer `after` inside the blocks of `paths`.
    "resized": `count` layers that are the same, on other data.
    "inputs", "arguments": the models were asked for differently.
    """

    about: str
    subject: str = ""
    what: str = ""
    before: tuple[Attribute, ...] = ()
    after: tuple[Attribute, ...] = ()
    count: int = 0
    paths: tuple[str, ...] = ()
    params: int = 0
    macs: int = 0


class DiffSide(msgspec.Struct, frozen=True):
    """One of the two models."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    totals: Totals
    unknown: tuple[UnknownOp, ...] = ()
    notes: tuple[str, ...] = ()


class DiffReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope diff`. `change` has every total that is a number, after - before."""

    before: DiffSide
    after: DiffSide
    differs: bool
    findings: tuple[Finding, ...]
    change: dict[str, int]
    rows: tuple[DiffRow, ...]
    schema_version: int = REPORT_SCHEMA


class StageLayer(msgspec.Struct, frozen=True, tag="layer", tag_field="type"):
    """A line in a cell of the architecture table: a weight layer, a pool, an attention.

    `times_in` is the width as a multiple of the channels that enter the block ("6", "1/4"), where
    that and not the width itself is what the repeated blocks have in common.
    `role` is "" on the main path, "shortcut" for a projection beside it, "gate" for what is made
    of the whole image and multiplied in (squeeze-and-excite), "side" for what sees no data.
    `weights` counts the weights that are met here for the first time.
    """

    path: str
    kind: str  # "conv", "transposed conv", "linear", "max pool", "average pool", "attention", ...
    output: Shape = ()  # positions: without batch and channels
    geometry: Geometry | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    times_in: str = ""
    role: str = ""
    weights: int = 0
    heads: int | None = None  # of an attention
    keys: int | None = None  # that each query of an attention meets


class StageFork(msgspec.Struct, frozen=True, tag="fork", tag_field="type"):
    """Parallel branches of a block, joined again behind them."""

    branches: tuple[tuple["StageLayer | StageFork", ...], ...]


StagePart = StageLayer | StageFork


class StageItem(msgspec.Struct, frozen=True):
    """Equal blocks (or layers) in a row: `parts` is what one of them does, in order.

    `shortcuts` are the projections of all of them together. `stride` is that of the first.
    """

    kind: str  # class of the module
    block: bool  # or a single layer
    paths: tuple[str, ...]  # one for each repetition
    parts: tuple[StagePart, ...]
    shortcuts: tuple[StageLayer, ...] = ()
    in_channels: int | None = None
    stride: tuple[int, ...] = ()

    @property
    def times(self) -> int:
        """How often it stands there."""
        return len(self.paths)


class Stage(msgspec.Struct, frozen=True):
    """What runs one after the other at one resolution; () once positions are gone."""

    output: Shape
    items: tuple[StageItem, ...]


class ModelStages(msgspec.Struct, frozen=True):
    """A column of the architecture table."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    stages: tuple[Stage, ...]
    params: int
    unused_params: int
    macs: int
    flops: int
    conv_layers: int
    linear_layers: int
    shortcut_layers: int  # of the two above: projections beside a residual path
    side_layers: int  # of the two above: those that see no data (a position bias)
    reruns: int  # weight layers that ran again with the same weights, and are not listed again
    resized: int  # resamplings to further sizes (of detections, one by one), not listed
    unknown_ops: int
    notes: tuple[str, ...] = ()
    recurrent_layers: int = 0
    decided_by: tuple[str, ...] = ()


class StagesReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope stages`: models side by side, `rows` their stages by resolution.

    A row has for each model the index of its stage, or None.
    """

    models: tuple[ModelStages, ...]
    rows: tuple[tuple[int | None, ...], ...]
    schema_version: int = REPORT_SCHEMA


class Step(msgspec.Struct, frozen=True):
    """One step of an explanation.

    `formula` is in words, `arithmetic` has the numbers put in and comes to `value`: integers,
    + - * / and parentheses, floor, ceil and max. Where there is nothing to calculate, `note`
    says why.
    """

    topic: str
    formula: str = ""
    arithmetic: str = ""
    value: int | float | None = None
    note: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """How each number of one row of the summary comes about."""

    layer: LayerRow
    steps: tuple[Step, ...]


class ExplainReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope explain MODEL LAYER`."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[Explanation, ...]
    schema_version: int = REPORT_SCHEMA


class KindShare(msgspec.Struct, frozen=True):
    """What all layers of one kind (Conv2d, Linear, ...) come to."""

    operation: str
    layers: int
    params: int
    macs: int


class ResolutionChange(msgspec.Struct, frozen=True):
    """Where maps become smaller or larger: sizes along each axis; () for no positions at all."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    layers: tuple[LayerRow, ...]


class SizeFailure(msgspec.Struct, frozen=True):
    """A size at which a forward raised: the layer (or operation) that refused it, and why."""

    size: int
    layer: str
    reason: str


class SmallestInput(msgspec.Struct, frozen=True):
    """Which sizes of the input work, by a forward at each of the sizes in `works` and `fails`.

    `axes` are varied together (("height", "width"): squares) or alone (("samples",)), other
    dimensions are kept. `side` is the smallest size tried that works, None where none does; every
    size below `at_least` was tried and fails. `layer` and `reason` are what breaks at `side` - 1,
    `above` is the first size tried above `side` that fails.

    From `start` on, all sizes tried follow a rule: n works if n = `offset` (mod `step`). A step of
    1 is every size, 0 is none; None where no rule was found. `works` and `fails` hold the first
    and last of consecutive sizes. `unclear` says why nothing was tried.
    """

    side: int | None
    at_least: int
    layer: str = ""
    reason: str = ""
    unclear: str = ""
    axes: tuple[str, ...] = ("height", "width")
    start: int = 1
    step: int | None = None
    offset: int = 0
    above: SizeFailure | None = None
    works: tuple[Run, ...] = ()
    fails: tuple[Run, ...] = ()


class ModelExplanation(msgspec.Struct, frozen=True):
    """The answer to `cnnscope explain MODEL`: a model in words and numbers.

    `params` and `macs` explain the layers that have most of them, with the step that says how.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    totals: Totals
    kinds: tuple[KindShare, ...]
    params: tuple[Explanation, ...]
    macs: tuple[Explanation, ...]
    resolution: tuple[ResolutionChange, ...]
    smallest: SmallestInput | None
    along: tuple[SmallestInput, ...] = ()  # single axes, where they need different sizes
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


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


# ------------------------------------------------------------------------------ checkpoints


class StoredTensor(msgspec.Struct, frozen=True):
    """A tensor in a checkpoint, under its key. `same_as` is the first key of the same memory."""

    path: str
    shape: Shape
    dtype: str
    elements: int
    nbytes: int
    same_as: str = ""


class StoredModule(msgspec.Struct, frozen=True):
    """All tensors below one prefix of a checkpoint's keys, those of one memory counted once."""

    path: str  # "" is the whole
    depth: int
    tensors: int
    elements: int
    nbytes: int
    dtypes: tuple[str, ...]
    own: tuple[StoredTensor, ...] = ()  # directly in it, not in a module below


class StoredOther(msgspec.Struct, frozen=True):
    """What lies beside the weights under one key: a plain value, or so many tensors."""

    path: str
    value: str  # a literal, or the name of a class
    tensors: int = 0
    elements: int = 0


class CheckpointReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope summary` for a file that holds weights alone.

    `root` is the key under which the weights lie ("" where they are the whole file), `others`
    what lies beside them. `statistics` are elements whose key ends as batch norm's running
    statistics do: the only ones that a checkpoint gives away as buffers.
    """

    file: str
    format: str  # "torch checkpoint" or "safetensors"
    file_bytes: int
    root: str
    modules: tuple[StoredModule, ...]
    tensors: tuple[StoredTensor, ...]
    elements: int
    nbytes: int
    statistics: int
    unreferenced_bytes: int = 0  # stored, but in no tensor
    others: tuple[StoredOther, ...] = ()
    schema_version: int = REPORT_SCHEMA


# --------------------------------------------------------------------------- `cnnscope bench`


class Interval(msgspec.Struct, frozen=True):
    """Where a quantity lies, with what confidence (0.95)."""

    low: float
    high: float
    confidence: float


class Ratio(msgspec.Struct, frozen=True):
    """How many times as long one thing takes as another, and what may be said of it.

    The verdict is "slower" or "faster" only where the whole interval lies beyond the noise floor,
    which is a fraction (0.01).
    """

    ratio: float
    interval: Interval
    noise_floor: float
    verdict: str  # "slower", "faster", "no difference visible", "too few samples"


class Histogram(msgspec.Struct, frozen=True):
    """Counts in equal bins from `low_ns` to `high_ns`; the last bin has what lies beyond too."""

    low_ns: float
    high_ns: float
    counts: tuple[int, ...]


class BenchStatistics(msgspec.Struct, frozen=True):
    """A distribution of times in nanoseconds; percentiles are None where samples are too few."""

    count: int
    median_ns: float
    interval: Interval | None  # of the median; None for fewer than 6 samples
    mean_ns: float
    min_ns: int
    max_ns: int
    q1_ns: float
    q3_ns: float
    p90_ns: float | None
    p95_ns: float | None
    p99_ns: float | None
    drift: float  # median of the second half over that of the first, minus 1
    outliers: int  # samples more than 3 IQR above the upper quartile
    block_length: int  # of the bootstrap
    histogram: Histogram


class BenchSettings(msgspec.Struct, frozen=True):
    """How a measurement was made: what would make two of them incomparable."""

    device: str  # "cpu", "cuda:0", "mps"
    mode: str = "forward"  # or "train"
    dtype: str = "float32"  # of weights and input
    amp: str = ""  # dtype of autocast
    channels_last: bool = False
    compile: str = ""  # mode of torch.compile
    threads: int = 1
    seconds: float = 5.0  # asked for, for each model and batch


class Environment(msgspec.Struct, frozen=True):
    """The machine and the libraries, as far as they can be read; "" or None where not."""

    cpu: str
    cores: int  # that this process may run on
    machine_cores: int
    quota: float | None  # cores' worth of time that a container's limit allows
    threads: int  # of torch within an operation
    interop_threads: int
    memory_bytes: int | None
    cpu_mhz: float | None
    load: float | None  # average over the minute before
    system: str
    python: str
    torch: str
    torch_cuda: str  # what torch was built with
    cudnn: str
    gpu: str
    gpu_memory_bytes: int | None
    driver: str
    gpu_clocks: dict[str, str]  # at work, as nvidia-smi writes them; of the first batch
    matmul_fp32: str  # "tf32", "ieee", ...: what float32 matrix products are computed in
    conv_fp32: str
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    mkldnn: bool

    @property
    def capacity(self) -> float:
        """Cores' worth of time that the process can have."""
        return min(self.cores, self.quota or self.cores)


class Ceilings(msgspec.Struct, frozen=True):
    """What this machine reached in this run: a large matrix product, a large copy."""

    dtype: str
    flops: float  # per second
    bandwidth: float  # bytes read and written per second
    matmul_size: int  # rows = columns
    copy_bytes: int
    fp32: str = ""  # precision of float32 products, where it is not full


class Work(msgspec.Struct, frozen=True):
    """What one forward has to do, by its trace."""

    macs: int
    nbytes: int | None  # read and written by its operations, one by one; None where not known
    params: int
    param_bytes: int
    needed_bytes: int  # memory: weights, what training adds, input, peak of the activations


class BenchMemory(msgspec.Struct, frozen=True):
    """Peak memory in bytes, up to the end of the warm-up."""

    allocated: int | None = None  # CUDA: by tensors of this model
    reserved: int | None = None  # CUDA: by torch from the driver, for all models
    resident: int | None = None  # otherwise: the whole process
    resident_before: int | None = None  # what of it this model had no part in


class Launch(msgspec.Struct, frozen=True):
    """What the host needs to enqueue one iteration, and the device to carry it out (ns)."""

    enqueue_ns: float
    device_ns: float


class LayerTime(msgspec.Struct, frozen=True):
    """One call of a layer, measured by itself on the input that it had in the forward."""

    path: str
    call: int
    operation: str
    output_shape: Shape
    median_ns: float
    count: int
    macs: int
    nbytes: int
    bound: str  # "compute", "memory" or "" (no ceilings)
    roofline: float | None  # attainable time over measured time


class BenchRun(msgspec.Struct, frozen=True):
    """One model at one batch size, with every sample.

    `warnings` are words for programs: "threads", "busy", "drift", "outliers", "launch-bound",
    "other-work" (calls compute less than the trace: rates are not told), "grows" (every call keeps
    `kept` bytes), "above-arithmetic" and "above-traffic" (more than the ceiling, measured twice).
    """

    label: str  # the model as it was named, "#2" after it for the second of one name
    source: Source
    inputs: tuple[TensorSpec, ...]
    batch: int
    settings: BenchSettings
    first_call_ns: int
    warmup_ns: int
    warmup_calls: int
    samples_ns: tuple[tuple[int, ...], ...]  # by round
    walls_ns: tuple[int, ...]  # wall clock of each round (0 where the samples are wall clock)
    statistics: BenchStatistics
    work: Work
    memory: BenchMemory = BenchMemory()
    launch: Launch | None = None
    layers: tuple[LayerTime, ...] = ()
    warnings: tuple[str, ...] = ()
    waited: float | None = None  # share of the threads' time in which they had no core
    computed: int | None = None  # multiply-accumulates of a call that was watched; None: not known
    kept: int = 0  # bytes that every call makes and the model keeps


class Comparison(msgspec.Struct, frozen=True):
    """A run beside another one, of this report or saved before; both by their labels."""

    base: str
    other: str
    run: int  # index of the other one in `runs`
    interleaved: bool
    ratio: Ratio
    differences: tuple[str, ...] = ()  # in settings and environment


class BenchReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope bench`."""

    runs: tuple[BenchRun, ...]
    comparisons: tuple[Comparison, ...]
    environment: Environment
    ceilings: Ceilings | None = None
    interrupted: bool = False
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

    @property
    def unknown(self) -> bool:
        """Whether there was nothing to compare with."""
        return not self.field

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


# ----------------------------------------------------------------------- what others count


class Published(msgspec.Struct, frozen=True):
    """What a library publishes of a model, for one of its weights.

    `macs` is a multiple of `resolution` (10**6 where three decimals of a giga are published),
    counted on `inputs`.
    """

    weights: str
    params: int
    macs: int
    resolution: int
    inputs: Inputs


class Count(msgspec.Struct, frozen=True):
    """What one counter said of a model: a number, or why it said none.

    Then it has `failed`, or it `needs` so many bytes of memory, which are not free.

    `counter`: "numel", "torchinfo", "fvcore", "flop counter", "published" or "forward"; `version`
    is its version, or the weights that a figure is published with. `figure`: "parameters", "MACs"
    or "shapes". `evidence` is what it said of its own count (operations that it met and has no
    formula for; those that it has one for). `calls` are module calls of a forward, in their order:
    path and shapes of the output.
    """

    counter: str
    figure: str
    version: str = ""
    value: int = 0
    resolution: int = 1
    evidence: dict[str, int] = {}
    calls: tuple[tuple[str, tuple[Shape, ...]], ...] = ()
    failed: str = ""
    needs: int = 0


class Reason(msgspec.Struct, frozen=True):
    """What a counter adds to our number, or leaves out of it (`amount` < 0), in `count` places.

    Of torchinfo: "biases" are added once for each output; "norms", "lookups" and "other weights"
    once for each sample; "positions": a weight counts once for each sample and not for each
    position; "transposed": a transposed convolution counts from its output; "no layer": products
    that no layer of their own runs; "own layer": a module of one's own counts its weights and not
    its products; "tied": a weight counts in each module that holds it; "containers": one that no
    forward calls counts beside what it holds; "computed weights": a normalised weight counts by
    what it is made of; "pruned": without masked elements. Of all three: "complex" products count
    as real ones, or as three of them.
    Of fvcore: "norm flops", "pools", "upsampling", "grid sampling" are added; "attention" and
    "no formula" left out; "einsum" is rounded, and "matmul" lacks a broadcast batch. Of torch: "no
    formula".
    Of what is published: "input": it was counted on another (`where`); "unused": without what never
    runs; "not selected": without what runs on detections, of which there were none.
    """

    about: str
    amount: int
    count: int
    where: tuple[str, ...] = ()  # the first layers or operations


class Verdict(msgspec.Struct, frozen=True):
    """A counter's number beside ours.

    `status`: "equal"; "explained" (the reasons are the whole difference); "incomparable" (it
    depends on data; `range` is what a run can give, and the number lies in it); "unexplained";
    "absent" (`note` says why, or it `needs` so many bytes of memory). Of shapes, the numbers are
    the module calls compared, `unexplained` how many differ (`note` has the first), and `left_out`
    how many depend on data. Of a receptive field ("field", by the counter "gradient") they are the
    pixels that a unit sees along the axis where it sees most; `layer` holds all that was measured.
    """

    counter: str
    version: str
    figure: str
    status: str
    theirs: int = 0
    ours: int = 0
    resolution: int = 1
    reasons: tuple[Reason, ...] = ()
    unexplained: int = 0
    range: tuple[int, int] | None = None
    left_out: int = 0
    note: str = ""
    needs: int = 0
    layer: LayerCheck | None = None


class CheckReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope check`: every counter's number beside ours."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class Tally(msgspec.Struct, frozen=True):
    """How often a counter's figure came to each status, over many models."""

    counter: str
    figure: str
    equal: int = 0
    explained: int = 0
    incomparable: int = 0
    unexplained: int = 0
    absent: int = 0


class Cause(msgspec.Struct, frozen=True):
    """In how many models a reason was found, and the largest share of our number that it made."""

    counter: str
    about: str
    models: int
    largest: float
    model: str  # where it was largest


class Checked(msgspec.Struct, frozen=True):
    """A model of `check --all`: how many counters came to what; `failed` says why none did."""

    source: str
    name: str
    equal: int = 0
    explained: int = 0
    incomparable: int = 0
    unexplained: int = 0
    absent: int = 0
    failed: str = ""
    trouble: tuple[Verdict, ...] = ()  # the verdicts that are unexplained or absent


class CheckAllReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope check --all`."""

    versions: dict[str, str]
    tallies: tuple[Tally, ...]
    causes: tuple[Cause, ...]
    models: tuple[Checked, ...]
    schema_version: int = REPORT_SCHEMA
