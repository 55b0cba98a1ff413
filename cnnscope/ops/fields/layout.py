"""Layout of the positions of the input's axes among the dimensions of a tensor.

A dimension is a product of *atoms*, outermost first: a piece of an axis (its digits of some
weight) or channels. (N, C, H, W) has one atom each for H and W; flattening makes one dimension
of two atoms; a window partition splits an axis in two atoms, in two dimensions. Reshapes split
and merge atoms, permutes move them, and nothing has to be guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import NamedTuple

from cnnscope.ops.fields import maps
from cnnscope.ops.fields.maps import Axis
from cnnscope.records.trace import Shape


class Atom(NamedTuple):
    """`size` digits of an axis, `weight` units apart.

    Axis -1 is channels; below it, positions of several axes that were blurred (see `blur`), axis a
    as bit a of -2 - axis.
    """

    size: int
    axis: int
    weight: int
    inner: Segments | None = None  # of blurred positions: what was laid side by side


Dim = tuple[Atom, ...]
CHANNELS = Atom(1, -1, 0)  # in front of positions that a layer has as its channels


class Segment(NamedTuple):
    """One of several pieces along a dimension; `axes` is empty where it sees nothing."""

    dim: tuple[Atom, ...]
    axes: tuple[Axis, ...]
    units: int


class Segments(NamedTuple):
    """Pieces of different positions in one dimension, and the axes of the whole as they were then.

    As long as these are the same, nothing but what acts on each position by itself came between,
    and a slice of the whole is a piece again.
    """

    parts: tuple[Segment, ...]
    axes: tuple[Axis, ...]


Layout = tuple[Dim, ...]


class State(NamedTuple):
    """Receptive field of a tensor: each axis, and its layout (empty without positions)."""

    layout: Layout
    axes: tuple[Axis, ...]

    def dims_of(self, axis: int) -> list[int]:
        """The dimensions that hold positions of an axis."""
        return [d for d, dim in enumerate(self.layout) if any(a.axis == axis for a in dim)]

    def with_axis(self, axis: int, value: Axis) -> State:
        """The same with one axis replaced."""
        if self.axes[axis] is value:
            return self
        return State(self.layout, (*self.axes[:axis], value, *self.axes[axis + 1 :]))

    def without(self, dims: Sequence[int]) -> State:
        """The same with dimensions that hold no positions."""
        gone = set(dims)
        return State(
            tuple(() if d in gone else dim for d, dim in enumerate(self.layout)), self.axes
        )

    def lose(self, dims: Sequence[int]) -> State:
        """Positions in these dimensions are no longer distinguished.

        An axis that sees the whole image anyway stays known.
        """
        state = self
        for axis in {a.axis for d in dims for a in self.layout[d] if a.axis >= 0}:
            state = state.lose_axis(axis)
        return state.without(dims)

    def lose_axis(self, axis: int) -> State:
        """One axis is not followed any more, and every trace of it leaves the layout."""
        value = self.axes[axis].forgotten()
        layout = tuple(() if any(a.axis == axis for a in dim) else dim for dim in self.layout)
        others = {a.axis for dim in self.layout if any(b.axis == axis for b in dim) for a in dim}
        state = State(layout, self.axes).with_axis(axis, value)
        for other in others - {axis, -1}:
            state = state.with_axis(other, self.axes[other].forgotten())
            state = State(
                tuple(() if any(a.axis == other for a in d) else d for d in state.layout),
                state.axes,
            )
        return state


def blur(state: State, dim: int, size: int) -> State:
    """Positions of one dimension joined with others (a class token): `size` in all.

    They are no longer distinguished, but a sum over all of them is known to see everything.
    """
    axes = sorted({a.axis for a in state.layout[dim] if a.axis >= 0})
    if any(state.dims_of(axis) != [dim] for axis in axes):
        return state.lose([dim])
    for axis in axes:
        state = state.with_axis(axis, state.axes[axis].forgotten())
    return _blurred(state, dim, size, None)


def _blurred(state: State, dim: int, size: int, inner: Segments | None) -> State:
    bits = sum(1 << i for i, a in enumerate(state.axes) if a.lost)
    atoms = (Atom(size, -2 - bits, 0, inner),) if bits else ()
    return State((*state.layout[:dim], atoms, *state.layout[dim + 1 :]), state.axes)


Pieces = Sequence[tuple[State | None, int]]  # and the units of each


def segmented(pieces: Pieces, dim: int) -> State:
    """Pieces of different positions along a dimension: a class token, rows beside columns."""
    pieces = _within(pieces, dim)
    size = sum(units for _, units in pieces)
    blurred = [blur(state, dim, size).without([dim]) for state, _ in pieces if state is not None]
    joined = blurred[0]
    for other in blurred[1:]:
        joined = join(joined, other)
    parts = tuple(
        Segment(s.layout[dim], s.axes, n) if s is not None else Segment((), (), n)
        for s, n in pieces
    )
    alike = all(_around(state, dim) == _around(joined, dim) for state, _ in pieces if state)
    return _blurred(joined, dim, size, Segments(parts, joined.axes) if alike else None)


def _within(pieces: Pieces, dim: int) -> Pieces:
    """With the digits in other dimensions joined of axes that lie in this one.

    Not those in the batch: what windows see together says little of one of them.
    """
    others = {
        d
        for state, _ in pieces
        if state is not None
        for axis in {a.axis for a in state.layout[dim] if a.axis >= 0}
        for d in state.dims_of(axis)
    } - {0, dim}
    return [(s and contract_all(s, sorted(others)), n) for s, n in pieces] if others else pieces


def _around(state: State, dim: int) -> Layout:
    return (*state.layout[:dim], *state.layout[dim + 1 :])


def _piece(state: State, dim: int, units: Sequence[int]) -> State | None:
    """The piece in which all of these units lie, and they of it; None where there is none."""
    inner = state.layout[dim][0].inner
    if inner is None or not _same(state.axes, inner.axes):
        return None
    start = 0
    for part in inner.parts:
        if part.axes and all(start <= unit < start + part.units for unit in units):
            found = State((*state.layout[:dim], part.dim, *state.layout[dim + 1 :]), part.axes)
            return read(found, dim, maps.listed([u - start for u in units]), len(units))
        start += part.units
    return None


def revealed(state: State) -> State:
    """State of a tensor in which one piece alone sees something: tokens behind a class."""
    for dim, atoms in enumerate(state.layout):
        inner = atoms[0].inner if atoms else None
        if inner is not None and _same(state.axes, inner.axes):
            seeing = [part for part in inner.parts if part.axes]
            if len(seeing) == 1:
                layout = (*state.layout[:dim], seeing[0].dim, *state.layout[dim + 1 :])
                return State(layout, seeing[0].axes)
    return state


def _same(a: Sequence[Axis], b: Sequence[Axis]) -> bool:
    return all(x is y for x, y in zip(a, b, strict=True))


def as_channels(state: State, dim: int) -> State:
    """Positions of several axes in a dimension, marked as the channels of a layer that slides.

    Tokens (N, H*W, C) have the same layout as an image whose pixels all went to the channels.
    """
    atoms = state.layout[dim]
    if atoms[:1] == (CHANNELS,) or len({a.axis for a in atoms} - {-1}) < 2:
        return state
    return State((*state.layout[:dim], (CHANNELS, *atoms), *state.layout[dim + 1 :]), state.axes)


def of_input(shape: Shape, dims: Sequence[int]) -> State:
    """The input: `dims` are its axes, in this order."""
    layout = tuple(
        (Atom(size, dims.index(d), 1),) if d in dims else () for d, size in enumerate(shape)
    )
    axes = {shape[d]: maps.identity(shape[d]) for d in dims}  # equal axes share their work
    return State(layout, tuple(axes[shape[d]] for d in dims))


def fits(state: State, shape: Shape) -> bool:
    """Return True if the layout describes such a tensor."""
    return len(state.layout) == len(shape) and all(
        not dim or prod(a.size for a in dim) == size
        for dim, size in zip(state.layout, shape, strict=True)
    )


# ------------------------------------------------------------------------------- reshaping


def reshape(state: State, before: Shape, after: Shape) -> State:
    """Split and merge atoms, as `view` does with dimensions."""
    if before == after:
        return state
    queue: list[Atom] = []
    for dim, size in zip(state.layout, before, strict=True):
        queue += dim or ([Atom(size, -1, 0)] if size != 1 else [])
    queue.reverse()  # the next atom is the last
    layout: list[Dim] = []
    for size in after:
        taken = _take(queue, size)
        if taken is None:
            return state.lose(range(len(before)))._replace(layout=((),) * len(after))
        layout.append(_merged(taken))
    return State(tuple(layout), state.axes)


def _take(queue: list[Atom], size: int) -> list[Atom] | None:
    """The atoms of one dimension, off the queue; None where no whole number of them fits."""
    if size == 1:
        return [queue.pop()] if queue and queue[-1].size == 1 else []
    taken: list[Atom] = []
    while size > 1:
        if not queue:
            return None
        atom = queue.pop()
        if size % atom.size == 0:
            taken.append(atom)
            size //= atom.size
        elif atom.size % size == 0 and atom.axis >= -1:
            rest = atom.size // size
            taken.append(Atom(size, atom.axis, atom.weight * rest))
            queue.append(Atom(rest, atom.axis, atom.weight))
            size = 1
        else:
            return None
    return taken


def _merged(atoms: list[Atom]) -> Dim:
    """Neighbours that count on as one; nothing where there are only channels."""
    merged: list[Atom] = []
    for atom in atoms:
        last = merged[-1] if merged else None
        if last and last.axis == atom.axis and last.weight == atom.weight * atom.size:
            merged[-1] = Atom(last.size * atom.size, atom.axis, atom.weight)
        elif len(atoms) == 1 or atom.size != 1:
            merged.append(atom)
    return tuple(merged) if any(a.axis != -1 for a in merged) else ()


# ---------------------------------------------------------------------------- rearranging


def read(state: State, dim: int, reading: maps.Reading, units: int) -> State:
    """One dimension read through taps: the axis that lies there follows them.

    Where other dimensions hold digits of the axis too (windows in the batch), each of their
    positions has a stretch of its own, and nothing is read across its ends.
    """
    if not state.layout[dim]:
        return state
    if (axis := alone(state, dim)) is None:
        return _read_digits(state, dim, reading, units)
    state = _whole_lines(state, dim, axis, reading, units)
    if state.dims_of(axis) != [dim]:
        return _read_apart(state, dim, axis, reading, units)
    state = settle(state, dim)
    if not state.layout[dim]:
        return state
    value = maps.compose(state.axes[axis], reading, units)
    layout = (*state.layout[:dim], (Atom(units, axis, 1),), *state.layout[dim + 1 :])
    return State(layout, (*state.axes[:axis], value, *state.axes[axis + 1 :]))


def _whole_lines(state: State, dim: int, axis: int, reading: maps.Reading, units: int) -> State:
    """Without the axes whose hulls are over units that are not read any more."""
    mixed = [i for i, a in enumerate(state.axes) if a.mixed >> axis & 1]
    if mixed:
        size = prod(a.size for a in state.layout[dim])
        read_ = {t for u in range(units) for t in (reading.real or reading.of)(u)}
        if 2 * sum(0 <= t < size for t in read_) <= size + 1:
            for other in mixed:
                state = state.lose_axis(other)
    return state


def alone(state: State, dim: int) -> int | None:
    """The axis whose positions, and no other's, lie in a dimension; None where that is not so."""
    axes = {a.axis for a in state.layout[dim]} - {-1}
    axis = axes.pop() if len(axes) == 1 else -1
    return axis if axis >= 0 else None


def _read_digits(state: State, dim: int, reading: maps.Reading, units: int) -> State:
    """A dimension of several axes' digits, where the units that are read pick some of each.

    Every sixteenth channel after space-to-depth is the first pixel of each block.
    """
    atoms = state.layout[dim]
    size, sizes = prod(a.size for a in atoms), [a.size for a in atoms]
    read_ = [[t for t in (reading.real or reading.of)(u) if 0 <= t < size] for u in range(units)]
    if any(len(taps) != 1 for taps in read_):
        return state.lose([dim])
    if any(a.axis < -1 for a in atoms):
        return _piece(state, dim, [taps[0] for taps in read_]) or state.lose([dim])
    chosen = _digits([taps[0] for taps in read_], sizes)
    if chosen is None:
        return state.lose([dim])
    apart = State((*state.layout[:dim], *((a,) for a in atoms), *state.layout[dim + 1 :]),
                  state.axes)  # fmt: skip
    for place, (digits, atom) in enumerate(zip(chosen, atoms, strict=True)):
        if len(digits) == atom.size and digits == list(range(atom.size)):
            continue
        if atom.axis == -1:
            layout = list(apart.layout)
            layout[dim + place] = (Atom(len(digits), -1, 0),)
            apart = State(tuple(layout), apart.axes)
        else:
            apart = read(apart, dim + place, maps.listed(digits), len(digits))
    last = dim + len(atoms)
    joined = _merged([a for d in apart.layout[dim:last] for a in d])
    return State((*apart.layout[:dim], joined, *apart.layout[last:]), apart.axes)


def _digits(units: list[int], sizes: list[int]) -> list[list[int]] | None:
    """The digits of a list of units that is all combinations of some of each, else None."""
    rest = prod(sizes)
    chosen = []
    for size in sizes:
        rest //= size
        chosen.append(sorted({unit // rest % size for unit in units}))
    combined, rest = [0], prod(sizes)
    for digits, size in zip(chosen, sizes, strict=True):
        rest //= size
        combined = [unit + digit * rest for unit in combined for digit in digits]
    return chosen if combined == units else None


def _read_apart(state: State, dim: int, axis: int, reading: maps.Reading, units: int) -> State:
    """Taps along one dimension of an axis whose other digits lie in other dimensions."""
    value, own = state.axes[axis], units_of(state.layout[dim])
    others = [(d, i, a) for d, atoms in enumerate(state.layout) if d != dim
              for i, a in enumerate(atoms) if a.axis == axis]  # fmt: skip
    outer = units_of([a for _, _, a in others])
    if value.spans is None or units * len(outer) > maps.MAX_UNITS:
        return state.lose([dim])
    taps = [[own[t] for t in (reading.real or reading.of)(u) if 0 <= t < len(own)]
            for u in range(units)]  # fmt: skip
    inside = all(a.weight > own[-1] for _, _, a in others)  # the digits of this dimension are finer
    pairs = (
        [(o, u) for o in outer for u in taps] if inside else [(o, u) for u in taps for o in outer]
    )
    read_ = [[o + t for t in u] for o, u in pairs]
    layout = [list(atoms) for atoms in state.layout]
    weight = units if inside else 1
    for d, i, atom in reversed(others):
        layout[d][i] = Atom(atom.size, axis, weight)
        weight *= atom.size
    layout[dim] = [Atom(units, axis, 1 if inside else len(outer))]
    value = maps.compose(value, maps.listed(read_), len(read_))
    return State(tuple(map(tuple, layout)), state.axes).with_axis(axis, value)


def settle(state: State, dim: int) -> State:
    """Make one dimension the whole of one axis, so that its index is the axis's unit.

    What cannot be settled (two axes in one dimension, digits in another one) is lost.
    """
    atoms = state.layout[dim]
    axis = next((a.axis for a in atoms if a.axis >= 0), None)
    if axis is None:
        return state.without([dim])
    if len(atoms) == 1 and atoms[0].weight == 1 and atoms[0].size == state.axes[axis].units:
        return state
    if state.dims_of(axis) != [dim] or {a.axis for a in atoms} - {axis, -1}:
        return state.lose([dim, *state.dims_of(axis)])
    value = state.axes[axis]
    if value.spans is None:
        return state.without([dim])
    size = prod(a.size for a in atoms)
    value = maps.rearranged(value, units_of(atoms))
    layout = (*state.layout[:dim], (Atom(size, axis, 1),), *state.layout[dim + 1 :])
    return State(layout, state.axes).with_axis(axis, value)


def units_of(atoms: Sequence[Atom]) -> list[int]:
    """The axis's unit at every index of a dimension."""
    units = [0]
    for atom in atoms:
        weight = atom.weight if atom.axis >= 0 else 0
        units = [unit + digit * weight for unit in units for digit in range(atom.size)]
    return units


# ----------------------------------------------------------------------------- contracting


def contract(state: State, dim: int, *, among: int | None = None, entirely: bool = False) -> State:
    """Sum over a dimension: every unit sees what all of its positions see.

    Args:
        state: what is summed.
        dim: over which dimension.
        among: only this axis's positions.
        entirely: a mean, which is of the whole image however small the image is.
    """
    kept = []
    for atom in state.layout[dim]:
        if atom.axis == -1:
            kept.append(atom)
            continue
        if atom.axis < -1 or among in (None, atom.axis):
            kept.append(Atom(atom.size, -1, 0))  # channels from now on
        if atom.axis < -1:
            for axis, value in enumerate(state.axes):
                if (-2 - atom.axis) >> axis & 1 and value.lost:
                    state = state.with_axis(axis, value.summed())
            continue
        if among is not None and atom.axis != among:
            kept.append(atom)
            continue
        state = _spread(state, atom, entirely=entirely)
    rest = tuple(kept) if any(a.axis != -1 for a in kept) else ()
    return State((*state.layout[:dim], rest, *state.layout[dim + 1 :]), state.axes)


def _spread(state: State, atom: Atom, *, entirely: bool) -> State:
    axis = state.axes[atom.axis]
    if axis.spans is None:
        return state
    if atom.size == axis.units and (entirely or atom.size > 1):
        return state.with_axis(atom.axis, axis.summed())
    if atom.size == 1:
        return state
    return state.with_axis(atom.axis, maps.smeared(axis, atom.size, atom.weight))


def contract_all(state: State, dims: Sequence[int], *, entirely: bool = False) -> State:
    """Sum over several dimensions at once."""
    for dim in dims:
        state = contract(state, dim, entirely=entirely)
    return _complete(state)


def _complete(state: State) -> State:
    """An axis none of whose positions are left, though it had many, has been seen whole."""
    for axis, value in enumerate(state.axes):
        if value.spans is not None and value.units > 1 and not state.dims_of(axis):
            state = state.with_axis(axis, value.summed())
    return state


def mix(state: State, dims: Sequence[int]) -> State:
    """Statistics over dimensions: every unit depends on all of them, and keeps its own place."""
    seen = contract_all(state, dims, entirely=True)
    if all(a is b for a, b in zip(seen.axes, state.axes, strict=True)):
        return state
    axes = tuple(maps.join(own, all_) for own, all_ in zip(state.axes, seen.axes, strict=True))
    return State(state.layout, axes)


# ---------------------------------------------------------------------------------- joins

Join = Callable[[Axis, Axis], Axis]


def broadcast(state: State, shape: Shape, out: Shape) -> State:
    """As an operand of a result of shape `out`: aligned at the right, ones stretched."""
    missing = len(out) - len(shape)
    layout = ((),) * missing + tuple(
        () if size == 1 and wanted != 1 else dim
        for dim, size, wanted in zip(state.layout, shape, out[missing:], strict=True)
    )
    return state if layout == state.layout else State(layout, state.axes)


def join(a: State, b: State, joined: Join = maps.join) -> State:
    """The hull of two operands of one shape."""
    if a is b:
        return a
    if a.layout == b.layout:
        if a.axes == b.axes:  # the very same objects
            return a
        layout = a.layout
    else:
        marked = [d for s in (a, b) for d, dim in enumerate(s.layout) if dim[:1] == (CHANNELS,)]
        a, b = _aligned(_placed(a), _placed(b))
        layout = tuple(x or y for x, y in zip(a.layout, b.layout, strict=True))
        for dim in marked:
            layout = as_channels(State(layout, a.axes), dim).layout
    if not _same(a.axes, b.axes):
        layout = tuple(map(_without_pieces, layout))
    axes = tuple(joined(x, y) for x, y in zip(a.axes, b.axes, strict=True))
    if len(axes) > 1:
        axes = _mixed(a, b, axes)
    if _blind(a) != _blind(b):
        seeing = (b if _blind(a) else a).axes
        axes = tuple(_only_spans(x, y) for x, y in zip(axes, seeing, strict=True))
    return _tidied(State(layout, axes))


def _mixed(a: State, b: State, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Marked where half of the units see what one operand sees, and that is less along others."""
    for axis, (x, y) in enumerate(zip(a.axes, b.axes, strict=True)):
        if x is y or x.spans is None or y.spans is None or _gaps(x) == _gaps(y):
            continue
        axes = tuple(
            value.but_mixed(axis) if other != axis and not p.alike(q) else value
            for other, (value, p, q) in enumerate(zip(axes, a.axes, b.axes, strict=True))
        )
    return axes


def _gaps(axis: Axis) -> bool:
    """Return True if half of the units, not all, see nothing: rows that were not written."""
    if axis.spans is None or inf not in axis.spans.lo:
        return False
    none = axis.spans.lo.count(inf)
    return axis.units <= 2 * none < 2 * axis.units


def _without_pieces(dim: Dim) -> Dim:
    if len(dim) == 1 and dim[0].inner is not None:
        return (dim[0]._replace(inner=None),)
    return dim


def _aligned(a: State, b: State) -> tuple[State, State]:
    """The same positions in the same layout; what has no common one is lost."""
    conflict = [
        d for d, (x, y) in enumerate(zip(a.layout, b.layout, strict=True)) if x and y and x != y
    ]
    shared = {axis for axis in range(len(a.axes)) if _apart(a, b, axis)}
    if not conflict and not shared:
        return a, b
    if _crossed(a, b, conflict):  # x + x.mT: beside each row lie all columns
        return contract_all(a, conflict), contract_all(b, conflict)
    slots = _slots(a, b)
    if slots is None:
        return a.lose(conflict), b.lose(conflict)
    for axis in range(len(a.axes)):
        a, b, slots = _one_layout(a, b, slots, axis)
    conflict = [
        d for d, (x, y) in enumerate(zip(a.layout, b.layout, strict=True)) if x and y and x != y
    ]
    return a.lose(conflict), b.lose(conflict)


def _apart(a: State, b: State, axis: int) -> bool:
    """Return True if both hold positions of an axis, and not in the same dimensions."""
    first, second = a.dims_of(axis), b.dims_of(axis)
    return bool(first and second) and first != second


def _crossed(a: State, b: State, dims: Sequence[int]) -> bool:
    """True if the axes in these dimensions lie in other ones in either operand, but in both."""
    axes = {atom.axis for s in (a, b) for d in dims for atom in s.layout[d]} - {-1}
    places = [(set(a.dims_of(axis)), set(b.dims_of(axis))) for axis in axes]
    return bool(places) and all(x and y and not x & y for x, y in places)


class _Slot(NamedTuple):
    """A piece of a dimension that is one atom in either operand."""

    dim: int
    size: int
    a: Atom
    b: Atom


def _slots(a: State, b: State) -> list[_Slot] | None:
    """Dimensions split where either operand splits them; None where they cannot be."""
    slots: list[_Slot] = []
    for dim, (x, y) in enumerate(zip(a.layout, b.layout, strict=True)):
        left, right = list(reversed(x)), list(reversed(y))
        if not x and not y:
            continue
        size = prod(p.size for p in x or y)
        left, right = left or [Atom(size, -1, 0)], right or [Atom(size, -1, 0)]
        while left and right:
            p, q = left.pop(), right.pop()
            if min(p.axis, q.axis) < -1 or max(p.size, q.size) % min(p.size, q.size):
                return None
            if p.axis >= 0 and q.axis >= 0 and p.axis != q.axis:
                return None
            part = min(p.size, q.size)
            for atom, rest in ((p, left), (q, right)):
                if atom.size > part:
                    rest.append(Atom(atom.size // part, atom.axis, atom.weight))
            p, q = (Atom(part, t.axis, t.weight * (t.size // part)) for t in (p, q))
            slots.append(_Slot(dim, part, p, q))
    return slots


def _one_layout(
    a: State, b: State, slots: list[_Slot], axis: int
) -> tuple[State, State, list[_Slot]]:
    """Number the positions of one axis anew, so that both operands have the same units."""
    own = [s for s in slots if axis in (s.a.axis, s.b.axis)]
    known = [x.axes[axis].spans is not None for x in (a, b)]
    if not own or not all(known) or prod(s.size for s in own) > maps.MAX_UNITS:
        return a, b, slots
    own.sort(key=lambda s: -max(s.a.weight if s.a.axis == axis else 0,
                                s.b.weight if s.b.axis == axis else 0))  # fmt: skip
    for name in ("a", "b"):
        state = a if name == "a" else b
        pieces = [getattr(s, name) for s in own]
        if all(p.axis != axis for p in pieces):
            continue  # one unit, broadcast
        places = units_of([p if p.axis == axis else p._replace(axis=-1) for p in pieces])
        state = state.with_axis(axis, maps.rearranged(state.axes[axis], places))
        a, b = (state, b) if name == "a" else (a, state)
    weights, weight = {}, 1
    for slot in reversed(own):
        weights[id(slot)] = Atom(slot.size, axis, weight)
        weight *= slot.size
    first, second = (any(getattr(s, n).axis == axis for s in own) for n in ("a", "b"))
    slots = [
        _Slot(s.dim, s.size, new if first else s.a, new if second else s.b)
        if (new := weights.get(id(s))) is not None
        else s
        for s in slots
    ]
    return _laid_out(a, slots, "a"), _laid_out(b, slots, "b"), slots


def _laid_out(state: State, slots: list[_Slot], name: str) -> State:
    layout: list[Dim] = []
    for dim in range(len(state.layout)):
        atoms = [getattr(s, name) for s in slots if s.dim == dim]
        layout.append(_merged(atoms) if atoms else ())
    return State(tuple(layout), state.axes)


def _blind(state: State) -> bool:
    """True if all units lie in padding along an axis: then they see nothing along the others."""
    return any(
        axis.spans is not None
        and axis.spans.hi[:1] == (-inf,)
        and max(axis.spans.hi) == -inf
        and axis.whole is None  # what was joined to them sees the whole image
        for axis in state.axes
    )


def _only_spans(joined: Axis, seeing: Axis) -> Axis:
    """Take the exact intervals at the real size from one operand."""
    if joined.units != seeing.units:
        return joined
    return Axis(
        joined.lines, seeing.spans, joined.least, whole=joined.whole, lost=joined.lost,
        together=joined.together, endless=joined.endless,
    )  # fmt: skip


def _placed(state: State) -> State:
    """Without positions of axes of which only the whole is known."""
    useless = {-1, *(i for i, a in enumerate(state.axes) if a.spans is None and not a.lost)}
    if len(useless) == 1:
        return state
    return State(
        tuple(() if {a.axis for a in dim} <= useless else dim for dim in state.layout),
        state.axes,
    )


def _tidied(state: State) -> State:
    return state if all(axis.spans is not None for axis in state.axes) else _placed(state)
