"""The receptive field of every tensor of a trace (found by the rules of `ops.fields`)."""

from __future__ import annotations

from math import inf, isinf
from operator import sub
from typing import Any

from msgspec import structs

from cnnscope.analysis import cancel, follow, positions
from cnnscope.analysis.memo import per_trace
from cnnscope.ops.fields import layout, maps, rules
from cnnscope.ops.fields.layout import Atom, State
from cnnscope.records.summary import AxisField, Field, UnitMap
from cnnscope.records.trace import Trace

_CHANNELS_AND_AXIS = 2  # dimensions: with more, the second is channels


@per_trace
def fields(trace: Trace) -> tuple[Field | None, ...]:
    """The receptive field of every tensor, by tensor id; None for what sees no input.

    Sizes are unclipped: what an interior unit of an arbitrarily large image sees. An operation
    without a rule makes everything that is computed from it unknown. Of several inputs they are
    those of the first that a layer slides over (see `positions.py`).
    """
    found = positions.positions(trace)
    if found is None:
        return (None,) * len(trace.tensors)
    reader = _Reader(found.size(trace.tensors[trace.inputs[found.input]].shape))
    return tuple(map(reader.field, states(trace, found)))


def spatial_axes(trace: Trace) -> int:
    """Number of axes of the input; 0 where nothing slides over it."""
    found = positions.positions(trace)
    return len(found.dims) if found is not None else 0


def notes(trace: Trace) -> tuple[str, ...]:
    """Notes on how receptive fields were found."""
    return positions.notes(trace, positions.positions(trace))


def states(trace: Trace, found: positions.Positions) -> list[rules.Seen]:
    """What is seen by each tensor and where in it, by tensor id: forward through the operations."""
    seen: list[rules.Seen] = [None] * len(trace.tensors)
    tensor = trace.inputs[found.input]
    seen[tensor] = layout.of_input(trace.tensors[tensor].shape, found.dims)
    memo: dict[Any, Any] = {}
    cancelled = cancel.cancelled(trace)
    for record in trace.ops:
        follow.step(trace, record, seen, memo)
        if cancelled and record.outputs and record.outputs[0] in cancelled:
            left = [seen[tensor] for tensor in cancelled[record.outputs[0]]]
            seen[record.outputs[0]] = _hull(left)
    return seen


def _hull(states: list[rules.Seen]) -> rules.Seen:
    """Union of the receptive fields of several tensors of one shape."""
    hull: rules.Seen = None
    for state in states:
        if isinstance(state, rules.Unknown):
            return state
        if state is not None:
            hull = state if not isinstance(hull, State) else layout.join(hull, state)
    return hull


class _Reader:
    """States to records; equal states share them."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size
        self.known: dict[int, Field] = {}  # by id: the states outlive this
        self.equal: dict[State, Field] = {}
        self.places: dict[Any, Any] = {}
        self.shared: dict[tuple[maps.Axis, int], tuple[AxisField | None, UnitMap | None]] = {}

    def field(self, state: rules.Seen) -> Field | None:
        if state is None:
            return None
        if isinstance(state, rules.Unknown):
            return Field(unknown=True, reason=f"{state.where} is not followed")
        found = self.known.get(id(state))
        if found is None:
            found = self.equal.get(state)
            if found is None:
                found = self.equal[state] = self._field(state)
            self.known[id(state)] = found
        return found

    def _field(self, state: State) -> Field:
        state = layout.revealed(state)
        read = [
            self._axis(_placed(state, i, self.places), size) for i, size in enumerate(self.size)
        ]
        axes = tuple(axis for axis, _ in read if axis is not None)
        if len(axes) < len(read):
            return Field(unknown=True, reason="its positions are no longer distinguished")
        context = any(axis.whole and axis.spans is not None for axis in state.axes)
        return Field(axes, tuple(units for _, units in read), context)

    def _axis(self, axis: maps.Axis, size: int) -> tuple[AxisField | None, UnitMap | None]:
        key = (axis, size)
        if key not in self.shared:
            self.shared[key] = (_axis_field(axis, size), _unit_map(axis))
        return self.shared[key]


def _placed(state: State, axis: int, memo: dict[Any, Any]) -> maps.Axis:
    """An axis by the units of the tensor.

    Where an axis is coarse, or repeated, its units are those of the dimension that they lie in.
    """
    value = state.axes[axis]
    for dim in state.layout:  # the most frequent case
        if len(dim) == 1 and dim[0].axis == axis and dim[0].size == value.units:
            return value
    image = _is_image(state)
    state = _gathered(state, axis, image=image)
    value, dims = state.axes[axis], state.dims_of(axis)
    if not dims and value.units > 1:
        return value.summed()
    if len(dims) != 1 or value.spans is None:
        return value
    own = _own(state, dims[0], axis, image=image)
    key = (value, own)
    if key not in memo:
        memo[key] = maps.rearranged(value, layout.units_of(own))
    placed: maps.Axis = memo[key]
    return placed


def _gathered(state: State, axis: int, *, image: bool) -> State:
    """Digits of an axis joined that lie in the channels, or beside another axis's positions.

    A unit sees what its channels see, and all that lies at its place along the axis.
    """
    dims, last = state.dims_of(axis), len(state.layout) - 1
    patches = len(dims) > 1 and dims[-1] == last and len(state.layout[last]) > 1
    if not image and patches and _finer(state, last):
        state = layout.contract(state, last, among=axis)  # patches, whose pixels are features
        dims = state.dims_of(axis)
    if dims[:1] == [1] and len(state.layout) > _CHANNELS_AND_AXIS and _among_channels(state):
        state = layout.contract(state, 1, among=axis)
        dims = state.dims_of(axis)
    if len(dims) > 1 and image:
        first = len(state.layout) - len(state.axes)
        for dim in dims:
            if dim >= first and dim != first + axis:
                state = layout.contract(state, dim, among=axis)
    return state


def _own(state: State, dim: int, axis: int, *, image: bool) -> tuple[Atom, ...]:
    """The atoms of a dimension as those of one axis, by whose units it is read."""
    atoms = state.layout[dim]
    others = {a.axis for a in atoms} - {axis, -1}
    if others and image:
        return tuple(a if a.axis == axis else Atom(a.size, -1, 0) for a in atoms)
    own = tuple(a for a in atoms if a.axis == axis or (a.axis == -1 and not others))
    return own[1:] if dim == 1 and own[0].axis == -1 else own  # rows of channels, side by side


def _among_channels(state: State) -> bool:
    """True if the second dimension holds channels: finer positions than another one.

    Tokens are none, whose pixels lie in a later one. Where there are too few dimensions for an
    image, and none but the first two holds positions, it is a sequence (attention along rows, which
    lie in the batch).
    """
    atoms, sizes = state.layout[1], len(state.layout)
    if sizes < _CHANNELS_AND_AXIS + len(state.axes) and not any(state.layout[2:]):
        return atoms[0] == layout.CHANNELS
    return atoms[0].axis == -1 or _finer(state, 1)


def _finer(state: State, dim: int) -> bool:
    """Return True if a dimension holds digits of an axis between which those of another one lie.

    It has the pixels of patches, the taps of windows, the phases of sub-pixels; the other one has
    their places.
    """
    heaviest: dict[int, int] = {}
    for atom in (a for other in state.layout for a in other if a.axis >= 0):
        heaviest[atom.axis] = max(atom.weight, heaviest.get(atom.axis, 0))
    return any(a.weight < heaviest[a.axis] for a in state.layout[dim] if a.axis >= 0)


def _is_image(state: State) -> bool:
    """Return True if the last dimensions are the axes in their order, whatever else they hold.

    Where each of them holds all axes, they are windows and the places in a window.
    """
    count = len(state.axes)
    held = [{a.axis for a in dim} - {-1} for dim in state.layout[-count:]]
    return (
        len(state.layout) > count
        and all(axis in axes for axis, axes in enumerate(held))
        and (count == 1 or not all(len(axes) == count for axes in held))
    )


def _axis_field(axis: maps.Axis, size: int) -> AxisField | None:
    """Receptive field along one axis of `size` pixels, None where it is not known."""
    if axis.lost and not axis.whole:
        return None
    first, last = axis.whole or (0, -1)
    whole = int(last - first) + 1 if first < inf else 0
    if axis.spans is None or (axis.endless and whole):
        return AxisField(None, None, None, input_size=size, clipped=(whole, whole))
    lengths = set(map(sub, axis.spans.hi, axis.spans.lo))  # far fewer than units
    extents = {int(n) + 1 for n in lengths if n >= 0} or {0}  # below 0: it sees nothing
    clipped = extents
    if whole:
        spans = zip(*axis.spans, strict=True)
        clipped = {int(max(b, last) - min(a, first)) + 1 for a, b in spans}
    seen = AxisField(None, None, None, aligned=False, explicit=True, input_size=size,
                     units=axis.units, clipped=(min(clipped), max(clipped)))  # fmt: skip
    return seen if axis.endless else _sized(seen, axis, extents)


def _sized(seen: AxisField, axis: maps.Axis, extents: set[int]) -> AxisField:
    """The field with the sizes of units on an endless image, and their stride if it is regular."""
    lines = axis.lines
    sizes = (lines.sizes() if lines else tuple(sorted(extents))) or (0,)
    largest = sizes[-1]
    found = structs.replace(
        seen,
        size=None if axis.whole else largest,
        local_size=largest,
        min_size=min((*axis.least.sizes(), largest)) if axis.least else None,
        sizes=sizes if len(sizes) > 1 else (),
    )
    if lines is None:
        return found
    one = lines.period == 1
    return structs.replace(
        found,
        stride=_number(lines.step, lines.period),
        padding=-int(lines.lo[0]) if one and sizes != (0,) else None,
        aligned=one and len(sizes) == 1,
        explicit=False,
    )


def _number(step: int, period: int) -> int | float:
    return step // period if step % period == 0 else step / period


def _unit_map(axis: maps.Axis) -> UnitMap | None:
    if axis.spans is None or (axis.endless and axis.whole):
        return None
    lo, hi = axis.spans
    lines = axis.lines
    if lines is None:
        return UnitMap(pixels(lo), pixels(hi))
    return UnitMap(pixels(lo), pixels(hi), lines.step, pixels(lines.lo),
                   pixels(lines.hi))  # fmt: skip


def pixels(values: tuple[maps.Number, ...]) -> tuple[int, ...]:
    """Ends of spans as whole numbers; of a unit that sees nothing they are [0, -1]."""
    if values and (min(values) == -inf or max(values) == inf):
        return tuple((0 if v > 0 else -1) if isinf(v) else int(v) for v in values)
    return values  # type: ignore[return-value]  # only infinities are floats
