"""Rules of operations that choose between values by a mask, followed where the mask is known."""

from __future__ import annotations

from collections.abc import Sequence

from cnnscope.ops.fields import layout, maps
from cnnscope.ops.fields.layout import State
from cnnscope.ops.fields.rules import Seen, View, elementwise
from cnnscope.records import Shape


def where(op: View) -> Seen:
    """Either value where the mask says so, both where it is not known."""
    return _chosen(op, "condition", "self", "other")


def masked_fill(op: View) -> Seen:
    """The value where the mask is true, the tensor elsewhere."""
    return _chosen(op, "mask", "value", "self")


def _chosen(op: View, mask: str, true: str, false: str) -> Seen:
    line = _line(op, mask)
    if line is None:
        return elementwise(op)
    dim, taken = line
    kept = [_kept(op, true, dim, taken), _kept(op, false, dim, [not t for t in taken])]
    return op.hull(kept)


def _line(op: View, name: str) -> tuple[int, list[bool]] | None:
    """The one dimension of the output along which a known mask varies, and what it says there."""
    tensor = op.record.inputs.get(name)
    if not isinstance(tensor, int) or op.states[tensor] is not None or not op.out:
        return None
    value = op.constant(tensor)
    if value is None:
        return None
    value = value.reshape((1,) * (len(op.out) - value.ndim) + value.shape).astype(bool)
    varying = [d for d, size in enumerate(value.shape)
               if size > 1 and (value != value.take([0], d)).any()]  # fmt: skip
    if len(varying) > 1:
        return None
    dim = varying[0] if varying else 0
    at = tuple(slice(None) if d == dim else 0 for d in range(value.ndim))
    found = [bool(v) for v in value[at]]
    return dim, found if len(found) == op.out[dim] else found * op.out[dim]


def _kept(op: View, name: str, dim: int, taken: Sequence[bool]) -> State | None:
    """An operand as it is seen where it is taken; None where that is nowhere.

    Where its positions cannot be taken one by one it counts as seen everywhere.
    """
    state = op.state(name)
    if state is None or not any(taken):
        return None
    shape: Shape = op.shape(name)
    state = layout.broadcast(state, shape, op.out)
    if all(taken) or layout.alone(state, dim) is None:
        return state
    read = layout.read(state, dim, _taken(taken), len(taken))
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
