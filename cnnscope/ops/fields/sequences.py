"""Rules of operations along a whole dimension: transforms, sorting, recurrent layers."""

from __future__ import annotations

from cnnscope.ops.fields import layout, maps
from cnnscope.ops.fields.layout import State
from cnnscope.ops.fields.rules import UNKNOWN, Result, Seen, View


def transform(op: View) -> Seen:
    """A Fourier transform: every frequency sees all positions, and none is one any more."""
    state = op.main
    return UNKNOWN if state is None else layout.contract_all(state, op.dims(), entirely=True)


def ordered(op: View) -> Seen:
    """Sorting, the largest few: where a value came from is not known, so all of the dimension."""
    state = op.main
    if state is None:
        return UNKNOWN
    dim = op.dim(default=-1)
    state = layout.contract_all(state, [dim], entirely=True)
    if len(op.out) < len(op.first):
        return State((*state.layout[:dim], *state.layout[dim + 1 :]), state.axes)
    return state


def recurrent(op: View) -> Result:
    """One recurrent layer and direction: every step sees those before it, and all features.

    Its time steps are dimension 0 whatever `batch_first` says: torch transposes beforehand.
    """
    state = op.state("input")
    if state is None or any(op.state(n) for n in ("hx_", "cx_")):
        return UNKNOWN
    time = 0
    state = layout.contract_all(state, [2])
    whole = layout.contract_all(state, [time], entirely=True)
    if not state.layout[time]:
        return state
    axis = layout.alone(state, time)
    if axis is None or state.dims_of(axis) != [time]:
        return UNKNOWN
    state = layout.settle(state, time)
    value, size = state.axes[axis], op.shape("input")[time]
    back = maps.explicit(list(range(size - 1, -1, -1)))
    if op.get("reverse"):
        value = maps.compose(maps.running(maps.compose(value, back, size)), back, size)
    else:
        value = maps.running(value)
    return [state.with_axis(axis, value), whole, whole, None]


def packed_network(op: View) -> Result:
    """All layers of a quantised network: a step sees those before it, and all in two directions."""
    state = op.main
    if state is None or len(op.first) != 3 or op.state("hx"):
        return UNKNOWN
    time = 1 if op.get("batch_first") else 0
    state = layout.contract_all(state, [2])
    whole = layout.contract_all(state, [time], entirely=True)
    last = State((whole.layout[time], whole.layout[1 - time], whole.layout[2]), whole.axes)
    if not state.layout[time]:
        return [state, last, last]
    axis = layout.alone(state, time)
    if axis is None or state.dims_of(axis) != [time]:
        return UNKNOWN
    if op.get("bidirectional"):
        return [layout.mix(state, [time]), last, last]
    state = layout.settle(state, time)
    return [state.with_axis(axis, maps.running(state.axes[axis])), last, last]


def packed_cell(op: View) -> Result:
    """One step of a quantised cell: all features of the input and of the states."""
    seen = [layout.contract_all(s, [len(s.layout) - 1]) for s, _ in op.all() if s is not None]
    return [op.hull(seen)] * len(op.results)
