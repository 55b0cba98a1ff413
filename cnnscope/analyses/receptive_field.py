"""The receptive field of every tensor of a trace (see `cnnscope/reach` for how it is found)."""

from __future__ import annotations

from math import inf, isinf
from typing import Any

from cnnscope import ops
from cnnscope.analyses import cancel
from cnnscope.reach import layout, maps, rules
from cnnscope.reach.layout import State
from cnnscope.records import AxisField, Field, OpRecord, Shape, Trace, UnitMap

_UNKNOWN_FIELD = Field(unknown=True)
_SLIDES = (
    rules.convolution,
    rules.pool,
    rules.adaptive_pool,
    rules.nearest,
    rules.nearest_exact,
    rules.linear,
    rules.cubic,
)


def fields(trace: Trace) -> tuple[Field | None, ...]:
    """The receptive field of every tensor, by tensor id; None for what sees no input.

    Sizes are unclipped: what an interior unit of an arbitrarily large image sees. An operation
    without a rule makes everything that is computed from it unknown.
    """
    count = spatial_axes(trace)
    if not count:
        return (None,) * len(trace.tensors)
    reader = _Reader(_input_size(trace, count))
    states = _states(trace, count)
    return tuple(map(reader.field, states))


def spatial_axes(trace: Trace) -> int:
    """How many axes the input has: as many as its first convolution, pool or upsampling has.

    Without one, an image of rank 4 has two and one of rank 5 three; there are none otherwise.
    """
    ranks = [len(trace.tensors[t].shape) for t in trace.inputs]
    if not ranks:
        return 0
    for record in trace.ops:
        entry = ops.lookup(record.name)
        if (
            entry is not None
            and entry.field in _SLIDES
            and not _over_channels(trace, record, ranks)
        ):
            return min(_slides_over(trace, record), max(ranks))
    return ranks[0] - 2 if ranks[0] in (4, 5) else 0


def _over_channels(trace: Trace, record: OpRecord, ranks: list[int]) -> bool:
    """Whether a pool is that of a local response norm, which makes channels its first axis."""
    op = ops.Op(trace, record)
    kernel = op.get("kernel_size")
    return isinstance(kernel, tuple) and len(op.first) > max(ranks) and set(kernel[1:]) == {1}


def _slides_over(trace: Trace, record: OpRecord) -> int:
    """Axes that an operation slides over; one where torch lends a 1d operation a second of one."""
    op = ops.Op(trace, record)
    if op.has("weight"):
        return len(op.shape("weight")) - 2
    named = next((n for tag, n in (("1d", 1), ("2d", 2), ("3d", 3)) if tag in record.name), 2)
    return 1 if named == 2 and op.first[-2:-1] == op.out[-2:-1] == (1,) else named


def _input_size(trace: Trace, count: int) -> tuple[int, ...]:
    shapes = [trace.tensors[t].shape for t in trace.inputs]
    return next((s[-count:] for s in shapes if len(s) >= count), (0,) * count)


def _states(trace: Trace, count: int) -> list[rules.Seen]:
    """Forward through the operations."""
    states: list[rules.Seen] = [None] * len(trace.tensors)
    size = _input_size(trace, count)
    starts: dict[tuple[int, ...], State] = {}
    for tensor in trace.inputs:
        shape = trace.tensors[tensor].shape
        if shape[-count:] != size:
            states[tensor] = rules.UNKNOWN
            continue
        start = starts.setdefault(shape, layout.of_input(shape, count))
        first = next(iter(starts.values()))
        states[tensor] = State(start.layout, first.axes)
    memo: dict[Any, Any] = {}
    cancelled = cancel.cancelled(trace)
    for record in trace.ops:
        _step(trace, record, states, memo)
        if cancelled and record.outputs and record.outputs[0] in cancelled:
            left = [states[tensor] for tensor in cancelled[record.outputs[0]]]
            states[record.outputs[0]] = _hull(left)
    return states


def _hull(states: list[rules.Seen]) -> rules.Seen:
    """What several tensors of one shape see together."""
    hull: rules.Seen = None
    for state in states:
        if isinstance(state, rules.Unknown):
            return state
        if state is not None:
            hull = state if not isinstance(hull, State) else layout.join(hull, state)
    return hull


def _step(trace: Trace, record: OpRecord, states: list[rules.Seen], memo: dict[Any, Any]) -> None:
    seen = 0
    unknown = False
    last = -1
    for value in record.inputs.values():
        for tensor in value if isinstance(value, tuple) else (value,):
            if tensor is not None and (state := states[tensor]) is not None:
                seen += 1
                last = tensor
                unknown = unknown or isinstance(state, rules.Unknown)
    if not seen:
        return
    entry = ops.lookup(record.name)
    rule = entry.field if entry is not None else None
    if rule is rules.elementwise and seen == 1 and len(record.outputs) == 1:
        out = record.outputs[0]
        if trace.tensors[out].shape == trace.tensors[last].shape:  # the most frequent case
            states[out] = states[last]
            return
    result: rules.Result = rules.UNKNOWN
    if rule is not None and (not unknown or rule is rules.constant):
        result = rule(rules.View(trace, record, states, memo))
    results = result if isinstance(result, list) else [result] * len(record.outputs)
    for tensor, state in zip(record.outputs, results, strict=False):
        fits = not isinstance(state, State) or _fits(state, trace.tensors[tensor].shape, memo)
        states[tensor] = state if fits else rules.UNKNOWN


def _fits(state: State, shape: Shape, memo: dict[Any, Any]) -> bool:
    """Whether the state describes such a tensor; what was found to is remembered."""
    key = (id(state), shape)
    if key not in memo:
        memo[key] = layout.fits(state, shape), state  # kept, so that its id stays its own
    return bool(memo[key][0])


class _Reader:
    """States to records; equal states share them."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size
        self.known: dict[int, Field] = {}  # by id: the states outlive this
        self.equal: dict[State, Field] = {}
        self.shared: dict[tuple[maps.Axis, int], tuple[AxisField | None, UnitMap | None]] = {}

    def field(self, state: rules.Seen) -> Field | None:
        if state is None:
            return None
        if isinstance(state, rules.Unknown):
            return _UNKNOWN_FIELD
        found = self.known.get(id(state))
        if found is None:
            found = self.equal.get(state)
            if found is None:
                found = self.equal[state] = self._field(state)
            self.known[id(state)] = found
        return found

    def _field(self, state: State) -> Field:
        read = [self._axis(_placed(state, i), size) for i, size in enumerate(self.size)]
        axes = tuple(axis for axis, _ in read if axis is not None)
        if len(axes) < len(read):
            return _UNKNOWN_FIELD
        context = any(axis.whole and axis.spans is not None for axis in state.axes)
        return Field(axes, tuple(units for _, units in read), context)

    def _axis(self, axis: maps.Axis, size: int) -> tuple[AxisField | None, UnitMap | None]:
        key = (axis, size)
        if key not in self.shared:
            self.shared[key] = (_axis_field(axis, size), _unit_map(axis))
        return self.shared[key]


def _placed(state: State, axis: int) -> maps.Axis:
    """An axis by the units of the tensor: coarse where the tensor holds its coarse digits only."""
    value = state.axes[axis]
    units = value.units
    for dim in state.layout:  # the most frequent case
        if len(dim) == 1 and dim[0].axis == axis and dim[0].size == units:
            return value
    dims = state.dims_of(axis)
    if len(dims) == 1:
        atoms = [a for a in state.layout[dims[0]] if a.axis == axis]
        if len(atoms) == 1 and atoms[0].size != value.units:
            return maps.compose(value, maps.pick(0, atoms[0].weight), atoms[0].size)
    return value


def _axis_field(axis: maps.Axis, size: int) -> AxisField | None:
    """None where it is not known."""
    spans, lines = axis.spans, axis.lines
    if axis.lost and not axis.whole:
        return None
    first, last = axis.whole or (0, -1)
    whole = int(last - first) + 1 if first < inf else 0
    if spans is None:
        return AxisField(None, None, None, input_size=size, clipped=(whole, whole))
    extents = {int(b - a) + 1 for a, b in zip(*spans, strict=True) if a <= b} or {0}
    sizes = (lines.sizes() if lines else tuple(sorted(extents))) or (0,)
    stride = padding = None
    aligned = len(sizes) == 1
    if lines is not None:
        stride = _number(lines.step, lines.period)
        aligned = aligned and lines.period == 1
        padding = -int(lines.lo[0]) if lines.period == 1 and sizes != (0,) else None
    return AxisField(
        size=None if axis.whole else sizes[-1],
        local_size=sizes[-1],
        min_size=min((*axis.least.sizes(), sizes[-1])) if axis.least else None,
        stride=stride,
        padding=padding,
        sizes=sizes if len(sizes) > 1 else (),
        aligned=aligned and lines is not None,
        explicit=lines is None,
        input_size=size,
        units=axis.units,
        clipped=(max(whole, min(extents)), max(whole, *extents)),
    )


def _number(step: int, period: int) -> int | float:
    return step // period if step % period == 0 else step / period


def _unit_map(axis: maps.Axis) -> UnitMap | None:
    if axis.spans is None:
        return None
    lo, hi = axis.spans
    lines = axis.lines
    if lines is None:
        return UnitMap(_integers(lo), _integers(hi))
    return UnitMap(_integers(lo), _integers(hi), lines.step, _integers(lines.lo),
                   _integers(lines.hi))  # fmt: skip


def _integers(values: tuple[maps.Number, ...]) -> tuple[int, ...]:
    """Whole numbers; a unit that sees nothing has [0, -1]."""
    if any(map(isinf, values)):
        return tuple((0 if v > 0 else -1) if isinf(v) else int(v) for v in values)
    return values  # type: ignore[return-value]  # only infinities are floats
