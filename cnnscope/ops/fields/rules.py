"""The receptive-field rule of each kind of operation; the operation table says which has which.

A rule takes the operation with the states of its inputs and gives the state of its outputs (one
for all of them), or None where nothing of the model's input is seen, or `UNKNOWN`. It is only
called when at least one input sees something and none is unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from math import floor, prod
from typing import Any

from cnnscope.ops.fields import layout, maps
from cnnscope.ops.fields.constants import Constants
from cnnscope.ops.fields.layout import Atom, State
from cnnscope.ops.operation import Op
from cnnscope.records.trace import OpRecord, Shape, Trace


class Unknown:
    """Not known: neither is anything computed from it. `where` names the operation."""

    __slots__ = ("where",)

    def __init__(self, where: str = "") -> None:
        self.where = where


UNKNOWN = Unknown()
Seen = State | None | Unknown
Result = Seen | list[Seen]  # one for all outputs, or one each
Rule = Callable[["View"], Result]


class View(Op):
    """An operation with the states of its inputs; `slide` remembers equal axes."""

    __slots__ = ("memo", "states")

    def __init__(
        self, trace: Trace, record: OpRecord, states: Sequence[Seen], memo: dict[Any, Any]
    ) -> None:
        super().__init__(trace, record)
        self.states, self.memo = states, memo

    def state(self, name: str, position: int = 0) -> State | None:
        """The state of a tensor argument."""
        value = self.record.inputs.get(name)
        tid = value[position] if isinstance(value, tuple) else value
        state = self.states[tid] if tid is not None else None
        return None if isinstance(state, Unknown) else state

    def all(self) -> Iterator[tuple[State | None, Shape]]:
        """State and shape of every input, in order."""
        for tid in self.record.tensors:
            state = self.states[tid]
            known = None if isinstance(state, Unknown) else state
            yield known, self.trace.tensors[tid].shape

    @property
    def main(self) -> State | None:
        """The state of the first input."""
        return next(self.all())[0]

    def join(self, a: maps.Axis, b: maps.Axis) -> maps.Axis:
        """Joined axes, remembered."""
        if a is b:
            return a
        key = (a, b)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = maps.join(a, b)
        return found

    def joined(self, states: Sequence[State]) -> State:
        """The hull of operands of one shape, remembered: dense blocks join the same ones often."""
        hull = states[0]
        for state in states[1:]:
            if state is hull:
                continue
            key = (id(hull), id(state))
            found = self.memo.get(key)
            if found is None:  # the operands are kept, so that their ids stay theirs
                found = self.memo[key] = (layout.join(hull, state, self.join), hull, state)
            hull = found[0]
        return hull

    def constant(self, tensor: int) -> Any:
        """The values of a tensor made from nothing, None where they are not known."""
        if "constants" not in self.memo:
            self.memo["constants"] = Constants(self.trace)
        return self.memo["constants"].value(tensor)

    def hull(self, states: Sequence[State | None]) -> State | None:
        """The hull of those that see something."""
        seeing = [s for s in states if s is not None]
        return self.joined(seeing) if seeing else None

    def dim(self, name: str = "dim", default: int = 0, rank: int | None = None) -> int:
        """A dimension, counted from the left."""
        value = int(self.get(name, default))
        return value % (len(self.first) if rank is None else rank)

    def dims(self, name: str = "dim") -> list[int]:
        """Dimensions, all where none are given."""
        value = self.get(name)
        rank = len(self.first)
        if value is None or value == ():
            return list(range(rank))
        return [d % rank for d in (value if isinstance(value, tuple) else (value,))] if rank else []


def numbers(value: Any, count: int) -> tuple[int, ...]:
    """One number for all axes, or one each."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == count else tuple(value) * count
    return (value,) * count


# ---------------------------------------------------------------------- position by position


def constant(op: View) -> Seen:
    """Made from nothing, whatever it was shaped after or overwrites."""
    return UNKNOWN if op.state("value") else None


def elementwise(op: View) -> Seen:
    """Every unit sees what its operands see, which broadcast."""
    out = op.out
    states = [layout.broadcast(s, shape, out) for s, shape in op.all() if s is not None]
    return states[0] if len(states) == 1 else op.joined(states)


def fake_quantised(op: View) -> Result:
    """Every unit sees itself; ranges and scales that are updated on the way are as they were."""
    return [op.main if shape == op.first else None for shape in op.results]


def calibrated(op: View) -> Seen:
    """Scale and zero point by a range of values: taken as constants, as calibration fixes them."""
    del op
    return None


def same(op: View) -> Seen:
    """A copy, or a restriding of the same values."""
    return op.main if op.first == op.out else UNKNOWN


def copied(op: View) -> Seen:
    """Receptive field of the values that are written, not of those that they overwrite."""
    state = op.state("src")
    return None if state is None else layout.broadcast(state, op.shape("src"), op.out)


def restrided(op: View) -> Seen:
    """Another geometry: harmless where no positions are distinguished."""
    state = op.main
    return state if state is not None and not any(state.layout) else UNKNOWN


def batch_norm(op: View) -> Result:
    """Constants at inference; with statistics of its own, a function of the whole image."""
    state = op.main
    if state is None or len(op.first) != len(op.out):
        return UNKNOWN
    training = op.get("training") or op.get("use_input_stats") or "no_stats" in op.record.name
    out = layout.mix(state, _but(op, 1)) if training else state
    return [out, None, None, None]  # at inference its statistics are not of the input


def instance_norm(op: View) -> Seen:
    """Statistics over the positions of each channel (Ulyanov et al. 2016)."""
    state = op.main
    return UNKNOWN if state is None else layout.mix(state, range(2, len(op.first)))


def group_norm(op: View) -> Seen:
    """Statistics over channels and all positions (Wu and He 2018, section 3.1)."""
    state = op.main
    return UNKNOWN if state is None else layout.mix(state, _but(op, 0))


def layer_norm(op: View) -> Seen:
    """Statistics over the last dimensions."""
    state = op.main
    rank, count = len(op.first), len(op.get("normalized_shape", (0,)))
    return UNKNOWN if state is None else layout.mix(state, range(rank - count, rank))


def along(op: View) -> Seen:
    """Softmax, sorting: every unit depends on all along one dimension."""
    state = op.main
    if state is None:
        return UNKNOWN
    return layout.mix(state, [op.dim(default=-1)])


def cumulative(op: View) -> Seen:
    """A running sum: every unit sees all before it."""
    state, dim = op.main, op.dim()
    if state is None or not state.layout[dim]:
        return UNKNOWN if state is None else state
    axis = layout.alone(state, dim)
    if axis is not None and state.dims_of(axis) == [dim]:
        state = layout.settle(state, dim)
        return state.with_axis(axis, maps.running(state.axes[axis]))
    before = [range(unit + 1) for unit in range(op.first[dim])]
    return layout.read(state, dim, maps.explicit(before), op.first[dim])


def _but(op: View, kept: int) -> list[int]:
    return [d for d in range(len(op.first)) if d not in (0, kept)]


# ---------------------------------------------------------------------------------- sliding


def convolution(op: View) -> Seen:
    """A convolution's taps, or those of a transposed one; all that computed weights see."""
    slid = _convolved(op, op.state("input"), op.shape("weight"), len(op.shape("weight")) - 2)
    return op.hull([slid, *_computed(op, ("weight", "bias"))])


def packed_convolution(op: View) -> Seen:
    """A convolution whose weight is packed, and a tensor that some add to its result."""
    state, added = op.main, op.state("qb") if op.has("qb") else None
    if not op.packed or op.get("stride") is None or state is None:
        return UNKNOWN
    return op.hull([_convolved(op, state, op.packed, len(op.out) - 2), added])


def packed_linear(op: View) -> Seen:
    """A sum over the last dimension, with a weight that is packed."""
    state = op.main
    return UNKNOWN if state is None else layout.contract_all(state, [len(state.layout) - 1])


def _convolved(op: View, state: State | None, weight: Shape, axes: int) -> State | None:
    """What a window slides over; packed geometry of a 1-D convolution has an axis of one before."""
    if state is None:
        return None
    readings = zip(
        weight[-axes:],
        *(
            numbers(op.get(name, default), axes)[-axes:]
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        ),
        strict=True,
    )
    form = maps.transposed if op.get("transposed") else maps.window
    channelled = _channels(op, state, len(op.first) - axes - 1)
    return _slide(op, channelled, axes, form, list(readings))


def deformable(op: View) -> Seen:
    """The regular grid, which offsets of zero sample, and all that offsets and masks see.

    Where the offsets lead is not known (Dai et al. 2017, section 2.1).
    """
    state = op.state("input")
    if state is None:
        return UNKNOWN
    kernel = op.shape("weight")[-2:]
    given = [[op.get(f"{name}_{d}", least) for d in "hw"]
             for name, least in (("stride", 1), ("pad", 0), ("dilation", 1))]  # fmt: skip
    readings = zip(kernel, *given, strict=True)
    slid = _slide(op, _channels(op, state, 1), 2, maps.window, list(readings))
    where = [layout.contract(s, 1) for n in ("offset", "mask")
             if (s := op.state(n)) and len(op.shape(n)) == len(op.out)]  # fmt: skip
    return op.hull([slid, *where, *_computed(op, ("weight", "bias"))])


def _computed(op: View, names: Sequence[str]) -> list[State]:
    """Receptive field of weights that are computed from the input: the same for every unit."""
    found = []
    for name in names:
        if (state := op.state(name)) is not None:
            state = layout.contract_all(state, range(len(state.layout)))
            found.append(State(((),) * len(op.out), state.axes))
    return found


def _channels(op: View, state: State, channel: int) -> State:
    """Channels as they are summed up, over each group; positions among them stay by group."""
    atoms = state.layout[channel]
    groups = op.get("groups", 1)
    if not atoms:
        return state
    if groups == 1:
        return layout.contract_all(state, [channel])
    size = op.first[channel]
    split = layout.reshape(
        state, op.first, (*op.first[:channel], groups, size // groups, *op.first[channel + 1 :])
    )
    split = layout.contract_all(split, [channel + 1])
    each = op.out[channel] // groups
    atoms = split.layout[channel]
    if atoms and each > 1:
        atoms = (*atoms, Atom(each, -1, 0))
    return State((*split.layout[:channel], atoms, *split.layout[channel + 2 :]), split.axes)


def pool(op: View) -> Seen:
    """A pool's taps. Those in the padding, and beyond the end in ceil_mode, are not there."""
    axes = op.axes or 2
    kernel = numbers(op.get("kernel_size"), axes)
    stride = numbers(op.get("stride") or kernel, axes)
    padding, dilation = numbers(op.get("padding", 0), axes), numbers(op.get("dilation", 1), axes)
    state = op.main
    if state is None:
        return UNKNOWN
    readings = zip(kernel, stride, padding, dilation, strict=True)
    return _slide(op, state, axes, maps.window, list(readings))


def adaptive_pool(op: View) -> Seen:
    """Bins from floor(u*in/out) to ceil((u + 1)*in/out): a window where they divide."""
    axes = op.axes or 2
    return _resample(op, axes, _bins)


def _bins(size: int, units: int, _: float | None) -> maps.Reading | None:
    if size == units:
        return maps.window(1, 1, 0)
    if units == 1:
        return None
    if size % units == 0:
        return maps.window(size // units, size // units, 0)
    return maps.explicit(
        [range(u * size // units, -((u + 1) * size // -units)) for u in range(units)]
    )


def _slide(
    op: View,
    state: State,
    count: int,
    form: Callable[..., maps.Reading],
    geometry: list[tuple[int, ...]],
) -> State | None:
    out = op.out
    first = len(out) - count
    for position, numbers_ in enumerate(geometry):
        dim = first + position
        if max(map(abs, numbers_)) > maps.MAX_UNITS:  # taps that take hours to go through
            state = state.lose([dim])
        elif state.layout[dim]:
            state = _read(op, state, dim, (form, *numbers_), out[dim])
        elif _only_padding(form(*numbers_), op.first[dim], out[dim]):
            return None
    return layout.as_channels(state, first - 1) if first else state


def _only_padding(reading: maps.Reading, size: int, units: int) -> bool:
    """Return True if no unit reads anything: a large padding around a single position."""
    return not any(0 <= tap < size for unit in range(units) for tap in reading.of(unit))


def _read(op: View, state: State, dim: int, key: tuple[Any, ...], units: int) -> State:
    """A dimension read through taps, remembered: both axes of a square image share the work."""
    atoms = state.layout[dim]
    axis, form, numbers_ = atoms[0].axis, key[0], key[1:]
    if form is maps.window and numbers_[:3] == (1, 1, 0):
        return state
    apart = len(atoms) > 1 or axis < 0 or any(a.mixed for a in state.axes)
    if apart or atoms[0].size != state.axes[axis].units:
        return layout.read(state, dim, form(*numbers_), units)
    value = state.axes[axis]
    remembered = (value, key, units)
    found = op.memo.get(remembered)
    if found is None:
        found = op.memo[remembered] = maps.compose(value, form(*numbers_), units)
    if atoms[0].size != units:
        at = (*state.layout[:dim], (Atom(units, axis, 1),), *state.layout[dim + 1 :])
        state = State(at, state.axes)
    return state.with_axis(axis, found)


# ------------------------------------------------------------------------------- resampling


def nearest(op: View) -> Seen:
    """Unit u reads floor(u * in/out)."""
    return _resample(
        op, (op.axes or 2), lambda size, units, s: _nearest(size, units, s, Fraction(0))
    )


def nearest_exact(op: View) -> Seen:
    """Unit u reads floor((u + 1/2) * in/out)."""
    half = Fraction(1, 2)
    return _resample(op, (op.axes or 2), lambda size, units, s: _nearest(size, units, s, half))


def linear(op: View) -> Seen:
    """The two pixels around the unit's centre; one where the other's weight is zero."""
    return _interpolate(op, 0, 1)


def cubic(op: View) -> Seen:
    """The four pixels around the unit's centre; one where it hits a pixel."""
    return _interpolate(op, -1, 2)


def _interpolate(op: View, first: int, last: int) -> Seen:
    corners = bool(op.get("align_corners"))

    def reading(size: int, units: int, scale: float | None) -> maps.Reading:
        ratio = _ratio(size, units, scale)
        offset = ratio / 2 - Fraction(1, 2)
        if corners:
            ratio, offset = Fraction(max(size - 1, 0), max(units - 1, 1)), Fraction(0)

        def taps(unit: int) -> Sequence[int]:
            place = unit * ratio + offset
            at = floor(place)
            return (at,) if place == at else range(at + first, at + last + 1)

        def real(unit: int) -> list[int]:
            return [min(max(tap, 0), size - 1) for tap in taps(unit)]

        if (corners and size not in (1, units)) or not _repeats(size, units, scale):
            return maps.explicit([real(u) for u in range(units)])
        return maps.Reading(taps, ratio.denominator, ratio.numerator, real)

    return _resample(op, (op.axes or 2), reading)


def antialiased(op: View) -> Seen:
    """A triangle as wide as the pixels of the smaller image (Pillow's filters)."""
    return _filtered(op, 1)


def antialiased_cubic(op: View) -> Seen:
    """A cubic that is as many pixels wider as the smaller image's are."""
    return _filtered(op, 2)


def _filtered(op: View, support: int) -> Seen:
    corners = bool(op.get("align_corners"))

    def reading(size: int, units: int, scale: float | None) -> maps.Reading:
        ratio = _ratio(size, units, scale)
        if corners:
            ratio = Fraction(max(size - 1, 0), max(units - 1, 1))
        wide = max(ratio, Fraction(1))

        def taps(unit: int) -> list[int]:
            centre = ratio * (unit + Fraction(1, 2))
            first, last = (
                floor(centre - support * wide + Fraction(1, 2)),
                floor(centre + support * wide + Fraction(1, 2)),
            )
            places = [
                (tap, abs((tap + Fraction(1, 2) - centre) / wide)) for tap in range(first, last)
            ]
            return [t for t, x in places if x < support and not (x == 1 and support > 1)]

        if (corners and size not in (1, units)) or not _repeats(size, units, scale):
            return maps.explicit([[t for t in taps(u) if 0 <= t < size] for u in range(units)])
        return maps.Reading(taps, ratio.denominator, ratio.numerator)

    return _resample(op, (op.axes or 2), reading)


def _nearest(size: int, units: int, scale: float | None, half: Fraction) -> maps.Reading:
    ratio = _ratio(size, units, scale)
    exact = [floor((u + half) * ratio) for u in range(ratio.denominator)]
    single = _single(1 / scale) if scale else _single(_single(size) / _single(units))
    real = [min(floor(_single(_single(u + float(half)) * single)), size - 1) for u in range(units)]

    if not _repeats(size, units, scale):
        return maps.explicit(real)

    def taps(unit: int) -> tuple[int]:
        turns, phase = divmod(unit, ratio.denominator)
        return (turns * ratio.numerator + exact[phase],)

    return maps.Reading(taps, ratio.denominator, ratio.numerator, lambda u: (real[u],))


def _repeats(size: int, units: int, scale: float | None) -> bool:
    """Return True if other image sizes are resampled by the same ratio.

    By a scale factor they are. Of two sizes it is believed where one divides the other; 33 to 65
    units is another ratio at another size. So is any ratio that aligns corners.
    """
    return scale is not None or (size > 0 and units % size == 0) or size % units == 0


def _ratio(size: int, units: int, scale: float | None) -> Fraction:
    """Input pixels for each unit: from the scale factor where it was given."""
    return 1 / Fraction(scale).limit_denominator(4096) if scale else Fraction(size, units)


def _single(value: float) -> float:
    """Rounded to float32, in which torch computes places."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _resample(
    op: View, axes: int, reading: Callable[[int, int, float | None], maps.Reading | None]
) -> Seen:
    state, shape, out = op.main, op.first, op.out
    if state is None:
        return UNKNOWN
    first = len(shape) - axes
    for position in range(axes):
        dim = first + position
        if not state.layout[dim]:
            continue
        how = reading(shape[dim], out[dim], _scale(op, position, axes))
        if how is None:
            state = layout.contract_all(state, [dim], entirely=True)
        else:
            state = layout.read(state, dim, how, out[dim])
    return layout.as_channels(state, first - 1) if first else state


def _scale(op: View, position: int, axes: int) -> float | None:
    factors = op.get("scale_factors")
    if factors:
        return float(factors[position])
    names = ("scales_d", "scales_h", "scales_w")[3 - axes :] if axes > 1 else ("scales",)
    value = op.get(names[position])
    return float(value) if value else None


# ---------------------------------------------------------------------------------- slicing


def slice_(op: View) -> Seen:
    """Every step-th unit from start on."""
    state, dim = op.main, op.dim()
    start = op.get("start")
    if start is None:
        start = 0
    return _pick(op, state, dim, start, int(op.get("step", 1) or 1))


def narrow(op: View) -> Seen:
    """Some neighbouring units."""
    return _pick(op, op.main, op.dim(), op.get("start", 0), 1)


def _pick(op: View, state: State | None, dim: int, start: int, step: int) -> Seen:
    if state is None:
        return UNKNOWN
    size = op.first[dim]
    start = max(start + size, 0) if start < 0 else min(start, size)
    if op.first == op.out and step == 1:
        return state
    return sliced(state, dim, start, step, op.out[dim])


def sliced(state: State, dim: int, start: int, step: int, units: int) -> State:
    """Every `step`th position of a dimension from `start` on, `units` of them."""
    return layout.read(state, dim, maps.pick(start, step), units)


def select(op: View) -> Seen:
    """One unit, whose dimension goes."""
    state, dim = op.main, op.dim()
    index = op.get("index", 0)
    if state is None or not isinstance(index, int):
        return UNKNOWN
    return squeezed(sliced(state, dim, index % max(op.first[dim], 1), 1, 1), dim)


def unbind(op: View) -> Result:
    """Every unit apart."""
    state, dim = op.main, op.dim()
    if state is None:
        return UNKNOWN
    if not state.layout[dim]:
        return squeezed(state, dim)
    wanted = op.get("output")
    which = range(op.first[dim]) if wanted is None else [wanted]
    return [squeezed(sliced(state, dim, unit, 1, 1), dim) for unit in which]


def squeezed(state: State, dim: int) -> State:
    """The state without a dimension of one position."""
    return State((*state.layout[:dim], *state.layout[dim + 1 :]), state.axes)


def halved(op: View) -> Seen:
    """One half of the channels gates the other."""
    state, dim = op.main, op.dim(default=-1)
    if state is None or not state.layout[dim]:
        return UNKNOWN if state is None else state
    half = op.out[dim]
    return op.joined([sliced(state, dim, start, 1, half) for start in (0, half)])


def view_as_real(op: View) -> Seen:
    """Real and imaginary parts in a new last dimension."""
    state = op.main
    return UNKNOWN if state is None else State((*state.layout, ()), state.axes)


def view_as_complex(op: View) -> Seen:
    """The last dimension, of real and imaginary parts, goes."""
    state = op.main
    return UNKNOWN if state is None or state.layout[-1] else squeezed(state, len(op.out))


def split(op: View) -> Result:
    """Pieces, one after the other."""
    state, dim = op.main, op.dim()
    if state is None:
        return UNKNOWN
    if not state.layout[dim]:
        return state
    found = pieces_of(op, dim)
    if found is None:
        return UNKNOWN
    return [sliced(state, dim, start, 1, size) for start, size in found]


def pieces_of(op: View, dim: int) -> list[tuple[int, int]] | None:
    """Start and units of the pieces that an operation's outputs are; None if not known."""
    sizes, wanted = _pieces(op, dim), op.get("output")
    if sizes is None:
        return None
    pieces = list(zip(accumulate((0, *sizes[:-1])), sizes, strict=True))
    return pieces if wanted is None else [pieces[wanted]]


def _pieces(op: View, dim: int) -> list[int] | None:
    """Units of every piece; None where they are not known."""
    size = op.first[dim]
    sizes = op.get("split_sizes") or op.get("split_size")
    if isinstance(sizes, int):
        return [min(sizes, size - at) for at in range(0, size, sizes)]
    if sizes:
        return list(sizes)
    if op.get("output") is not None:
        return None
    return [op.trace.tensors[t].shape[dim] for t in op.record.outputs]


def pad(op: View) -> Seen:
    """Zeros around, or a crop where negative; the last dimension comes first."""
    state, widths = op.main, op.get("pad", ())
    if state is None:
        return UNKNOWN
    for position in range(len(widths) // 2):
        before, after = widths[2 * position : 2 * position + 2]
        dim = len(op.first) - 1 - position
        if (before or after) and state.layout[dim]:
            state = layout.read(state, dim, maps.shift(before), op.out[dim])
    return state


def border(op: View) -> Seen:
    """Padding that reflects, repeats or wraps around."""
    state, widths = op.main, op.get("padding") or op.get("pad", ())
    if state is None:
        return UNKNOWN
    for position in range(len(widths) // 2):
        before = widths[2 * position]
        dim = len(op.first) - 1 - position
        size = op.first[dim]
        if state.layout[dim]:
            places = [_place(op, u - before, size) for u in range(op.out[dim])]
            state = layout.read(state, dim, maps.bordered(before, places), op.out[dim])
    return state


def _place(op: View, unit: int, size: int) -> int:
    if "circular" in op.record.name:
        return unit % size
    if "replication" in op.record.name:
        return min(max(unit, 0), size - 1)
    return -unit if unit < 0 else 2 * (size - 1) - unit if unit >= size else unit


def roll(op: View) -> Seen:
    """Units moved around the end."""
    state, dims, shifts = op.main, op.get("dims", ()), op.get("shifts")
    if state is None:
        return UNKNOWN
    if not dims:  # of all elements in a row
        many = [d for d, size in enumerate(op.first) if size > 1]
        dims, shifts = (many, shifts) if len(many) == 1 else ((), ())
        if len(many) > 1 and any(state.layout):
            return UNKNOWN
    for dim, by in zip(dims, shifts, strict=True):
        at = dim % len(op.first)
        size = op.first[at]
        if state.layout[at] and by % size:
            state = layout.read(state, at, maps.rolled(by, size), size)
    return state


def flip(op: View) -> Seen:
    """Units in reverse order: explicit intervals."""
    state = op.main
    return UNKNOWN if state is None else _flipped(state, op.dims("dims"), op.first)


def _flipped(state: State, dims: Sequence[int], shape: Shape) -> State:
    for dim in dims:
        if state.layout[dim]:
            units = list(range(shape[dim] - 1, -1, -1))
            state = layout.read(state, dim, maps.explicit(units), len(units))
    return state


def rotated(op: View) -> Seen:
    """A quarter turn is a flip and two dimensions exchanged."""
    state = op.main
    if state is None:
        return UNKNOWN
    a, b = (d % len(op.first) for d in op.get("dims", (0, 1)))
    turns = op.get("k", 1) % 4
    if turns % 2 == 0:
        return _flipped(state, [a, b] if turns else [], op.first)
    state = _flipped(state, [b if turns == 1 else a], op.first)
    order = list(range(len(op.first)))
    order[a], order[b] = b, a
    return _ordered(state, order)


# ------------------------------------------------------------------------------ rearranging


def view(op: View) -> Seen:
    """Dimensions split and merged."""
    state = op.main
    if state is None or prod(op.first) != prod(op.out):
        return UNKNOWN
    return layout.reshape(state, op.first, op.out)


def permute(op: View) -> Seen:
    """Dimensions in another order."""
    state = op.main
    return UNKNOWN if state is None else _ordered(state, order_of(op))


def order_of(op: View) -> list[int]:
    """The order in which a permutation, or a transposition, has the dimensions."""
    rank = len(op.first)
    if op.get("dims") is not None:
        return [d % rank for d in op.get("dims")]
    order = list(range(rank))
    if rank > 1:
        a, b = op.dim("dim0", -2 if rank != 2 else 0), op.dim("dim1", -1)
        order[a], order[b] = b, a
    return order


def _ordered(state: State, order: Sequence[int]) -> State:
    return State(tuple(state.layout[d] for d in order), state.axes)


def unsqueeze(op: View) -> Seen:
    """A new dimension of one."""
    state, dim = op.main, op.dim(rank=len(op.first) + 1)
    if state is None:
        return UNKNOWN
    return State((*state.layout[:dim], (), *state.layout[dim:]), state.axes)


def squeeze(op: View) -> Seen:
    """Dimensions of one that go."""
    state = op.main
    gone = {d for d in op.dims() if op.first[d] == 1}
    if state is None:
        return UNKNOWN
    return State(tuple(x for d, x in enumerate(state.layout) if d not in gone), state.axes)


def expand(op: View) -> Seen:
    """Ones stretched, dimensions added at the left."""
    state = op.main
    return UNKNOWN if state is None else layout.broadcast(state, op.first, op.out)


def repeat(op: View) -> Seen:
    """Copies laid beside each other."""
    state = op.main
    if state is None:
        return UNKNOWN
    state = layout.broadcast(state, op.first, op.out)
    shape = (1,) * (len(op.out) - len(op.first)) + op.first
    dims = [
        (Atom(b // a, -1, 0), *atoms) if atoms and a != b else atoms
        for atoms, a, b in zip(state.layout, shape, op.out, strict=True)
    ]
    return State(tuple(dims), state.axes)


def concatenate(op: View) -> Seen:
    """Over channels the hull; along an axis one after the other."""
    pairs = [(s, shape) for s, shape in op.all() if 0 not in shape]
    if len(pairs) == 1:
        return pairs[0][0]  # one piece is all
    dim = op.dim(rank=len(op.out))
    pairs = [(s and _gathered(s, dim), shape) for s, shape in pairs]
    seeing = [(s, shape) for s, shape in pairs if s is not None]
    if not seeing:
        return None  # an empty piece saw it, if any
    if not any(s.layout[dim] for s, _ in seeing):
        states = [s for s, _ in seeing]
        ones = len(states) > 1 and all(shape[dim] == 1 for _, shape in seeing)
        if not ones or all(s.axes == states[0].axes for s in states):
            return op.joined(states)
        return rows(op, [(s, 1) for s, _ in pairs], dim)
    if not all(layout.alone(s, dim) is not None for s, _ in seeing if s.layout[dim]):
        return layout.segmented([(s, shape[dim]) for s, shape in pairs], dim)
    return end_to_end(op, [(s, shape[dim]) for s, shape in pairs], dim)


def _gathered(state: State, dim: int) -> State:
    """Digits among channels, whose axis lies in another dimension, joined: patches of an unfold."""
    if any(a.axis == -1 for a in state.layout[dim]):
        for axis in {a.axis for a in state.layout[dim] if a.axis >= 0}:
            if state.dims_of(axis) != [dim]:
                state = layout.contract(state, dim, among=axis)
    return state


def rows(op: View, pieces: layout.Pieces, dim: int) -> Seen:
    """Single units side by side: positions again if they differ along one axis, else channels."""
    seeing = [s for s, _ in pieces if s is not None]
    count = len(seeing[0].axes)
    apart = [
        i for i in range(count)
        if len({s.axes[i].spans for s in seeing}) > 1
        and all(s.axes[i].units == 1 for s in seeing) and not any(s.dims_of(i) for s in seeing)
    ]  # fmt: skip
    if len(apart) > 1:
        return UNKNOWN
    return end_to_end(op, pieces, dim, apart[0]) if apart else op.joined(seeing)


def end_to_end(op: View, pieces: layout.Pieces, dim: int, axis: int | None = None) -> Seen:
    """Pieces laid one after the other along an axis: that of their positions if it is not given."""
    seeing = [s for s, _ in pieces if s is not None]
    axes = {layout.alone(s, dim) for s in seeing if s.layout[dim]} or {axis}
    axis = axes.pop()
    if axes or axis is None:
        return layout.segmented(pieces, dim)
    parts: list[maps.Part] = []
    for state, size in pieces:
        part = _part(state, dim, axis, size)
        if isinstance(part, Unknown):
            return part
        parts.append(part)
    return laid(op, seeing, dim, axis, maps.concatenate(parts), op.out[dim])


def laid(
    op: View, seeing: Sequence[State], dim: int, axis: int, value: maps.Axis, size: int
) -> State:
    """Maps put together along a dimension, where an axis's units are `value`."""
    others = [s.without([dim]).with_axis(axis, value) for s in seeing]
    joined = op.joined(others).with_axis(axis, value)
    for other in range(len(joined.axes)):
        if other != axis and not all(s.axes[other].alike(seeing[0].axes[other]) for s in seeing):
            joined = joined.with_axis(other, joined.axes[other].but_mixed(axis))
    atoms = (Atom(size, axis, 1),) if value.spans else ()
    return State((*joined.layout[:dim], atoms, *joined.layout[dim + 1 :]), joined.axes)


def _part(state: State | None, dim: int, axis: int, size: int) -> maps.Part | Unknown:
    if state is None:
        return None, size
    if state.layout[dim]:
        settled = layout.settle(state, dim)
        return settled.axes[axis], size
    value = state.axes[axis]
    if value.units == 1 and not state.dims_of(axis):
        return value if size == 1 else maps.held(value, size), size
    return UNKNOWN if value.spans is not None else (value, size)


def stack(op: View) -> Seen:
    """A new dimension: of channels, or of positions where every tensor is one of them."""
    dim = op.dim(rank=len(op.out))
    states = [
        State((*s.layout[:dim], (), *s.layout[dim:]), s.axes) if s is not None else None
        for s, _ in op.all()
    ]
    seeing = [s for s in states if s is not None]
    if all(s.axes == seeing[0].axes for s in seeing) and len(seeing) in (1, len(states)):
        return op.joined(seeing)
    return rows(op, [(s, 1) for s in states], dim)


def pixel_shuffle(op: View) -> Seen:
    """Blocks of r x r channels become r x r pixels (Shi et al. 2016, section 3.2)."""
    return _shuffled(op)


def pixel_unshuffle(op: View) -> Seen:
    """Blocks of r x r pixels become channels."""
    return _shuffled(op)


def channel_shuffle(op: View) -> Seen:
    """Groups of channels interleaved (Zhang et al. 2018, section 3.1)."""
    return _shuffled(op)


def _shuffled(op: View) -> Seen:
    state = op.main
    if state is None:
        return UNKNOWN
    split, order = blocks_of(op)
    state = _ordered(layout.reshape(state, op.first, split), order)
    return layout.reshape(state, tuple(split[d] for d in order), op.out)


def blocks_of(op: View) -> tuple[Shape, list[int]]:
    """The sizes that a shuffle splits dimensions in, and the order that it has them in."""
    if "channel" in op.record.name:
        (n, c, *rest), groups = op.first, op.get("groups", 1)
        return (n, groups, c // groups, *rest), [0, 2, 1, *range(3, len(op.first) + 1)]
    *batch, c, h, w = op.first
    n = len(batch)
    if "unshuffle" in op.record.name:
        r = op.get("downscale_factor", 1)
        split = (*batch, c, h // r, r, w // r, r)
        return split, [*range(n), *(n + d for d in (0, 2, 4, 1, 3))]
    r = op.get("upscale_factor", 1)
    split = (*batch, c // (r * r), r, r, h, w)
    return split, [*range(n), *(n + d for d in (0, 3, 1, 4, 2))]


# ------------------------------------------------------------------------------- contracting


def reduction(op: View) -> Seen:
    """A mean, sum or maximum over dimensions: all of them are seen."""
    if op.has("other"):
        return elementwise(op)
    state = op.main
    if state is None:
        return UNKNOWN
    dims = op.dims()
    state = layout.contract_all(state, dims, entirely=True)
    if len(op.out) == len(op.first):
        return state
    kept = tuple(x for d, x in enumerate(state.layout) if d not in set(dims))
    return State(kept, state.axes)


def matmul(op: View) -> Seen:
    """Sums over the inner dimension. Of two operands with positions, the left one's are kept."""
    names = [n for n in ("self", "mat1", "batch1") if op.has(n)]
    left = names[-1]
    right = next((n for n in ("mat2", "batch2") if op.has(n)), None)
    if right is None:
        return UNKNOWN
    parts = _product(op.state(left), op.state(right))
    if left != "self" and (bias := op.state("self")):
        parts.append(layout.broadcast(bias, op.shape("self"), op.out))
    return op.joined(parts)


def _product(a: State | None, b: State | None) -> list[State]:
    """Both operands, aligned with their product; what the inner dimension held is joined."""
    parts = []
    if a is not None:
        a = layout.contract_all(a, [len(a.layout) - 1]) if a.layout[-1] else a
        parts.append(a)
    if b is not None:
        rank = len(b.layout)
        inner = [rank - 2, rank - 1] if a is not None and a.layout[-2] else [rank - 2]
        b = layout.contract_all(b, [d for d in inner if b.layout[d]])
        parts.append(b)
    return parts


def attention(op: View) -> Seen:
    """Every query sees itself, and all keys and values of its sequence."""
    query, key, value = op.state("query"), op.state("key"), op.state("value")
    if query is None or key is None or value is None:
        return UNKNOWN
    rank = len(query.layout)
    both = [rank - 2, rank - 1]
    query = layout.contract_all(query, [rank - 1])
    key, value = layout.contract_all(key, both), layout.contract_all(value, both[:1])
    return op.joined([query, key, value])


def linear_layer(op: View) -> Seen:
    """A sum over the last dimension."""
    state = op.state("input")
    if state is None or op.state("weight"):
        return UNKNOWN
    return layout.contract_all(state, [len(state.layout) - 1])
