"""Rules of operations that choose between values by a mask, followed where the mask is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnscope.ops.fields import layout, maps
from cnnscope.ops.fields.layout import State
from cnnscope.ops.fields.rules import Seen, View, elementwise


def where(op: View) -> Seen:
    """Either value where the mask says so, both where it is not known."""
    return _chosen(op, "condition", "self", "other")


def masked_fill(op: View) -> Seen:
    """The value where the mask is true, the tensor elsewhere."""
    return _chosen(op, "mask", "value", "self")


def _chosen(op: View, mask: str, true: str, false: str) -> Seen:
    taken = _mask(op, mask)
    if taken is None:
        return elementwise(op)
    return op.hull([_kept(op, true, taken), _kept(op, false, ~taken)])


def _mask(op: View, name: str) -> Any:
    """A known mask, with a dimension for each of the output's; None if it is not known."""
    tensor = op.record.inputs.get(name)
    if not isinstance(tensor, int) or op.states[tensor] is not None:
        return None
    value = op.constant(tensor)
    if value is None:
        return None
    return value.reshape((1,) * (len(op.out) - value.ndim) + value.shape).astype(bool)


def _kept(op: View, name: str, taken: Any) -> State | None:
    """An operand as it is seen where it is taken; None where that is nowhere."""
    state = op.state(name)
    if state is None or not taken.any():
        return None
    state = layout.broadcast(state, op.shape(name), op.out)
    if taken.all():
        return state
    # a dimension for every atom: flattened positions are rows and columns again
    parts = [[a.size for a in atoms] or [n] for atoms, n in zip(state.layout, op.out, strict=True)]
    split = tuple(size for sizes in parts for size in sizes)
    spread = [s for sizes, n in zip(parts, taken.shape, strict=True)
              for s in (sizes if n > 1 else [1] * len(sizes))]  # fmt: skip
    taken = taken.reshape(spread)
    state = layout.reshape(state, op.out, split)
    for dim in range(len(split)):
        state = _along(state, dim, taken)
    return layout.reshape(state, split, op.out)


def _along(state: State, dim: int, taken: Any) -> State:
    """One dimension of an operand, without the units that are taken nowhere.

    Where its positions cannot be taken one by one it counts as seen everywhere.
    """
    some = taken.any(axis=tuple(d for d in range(taken.ndim) if d != dim))
    if layout.alone(state, dim) is None or some.all():
        return state
    read = layout.read(state, dim, _taken([bool(v) for v in some]), len(some))
    lost = any(a.lost and not b.lost for a, b in zip(read.axes, state.axes, strict=True))
    return state if lost else read  # more than is seen, rather than nothing known


def _taken(taken: Sequence[bool]) -> maps.Reading:
    """Units that read themselves or nothing: in turns, else as most of them do."""
    size = len(taken)

    def itself(unit: int) -> tuple[int, ...]:
        return (unit,) if taken[unit] else ()

    turns = range(2, min(size // 2, maps.MAX_PERIOD) + 1)
    turn = next((t for t in turns if all(taken[u] == taken[u - t] for u in range(t, size))), 0)
    if turn:
        return maps.Reading(lambda unit: (unit,) if taken[unit % turn] else (), turn, turn)
    if 2 * sum(taken) > size:
        return maps.Reading(lambda unit: (unit,), 1, 1, real=itself)
    return maps.explicit([itself(unit) for unit in range(size)])
