"""Where a unit lies in a tensor: windows and tokens hold positions of several axes in a dimension.

`cnnscope rf --verify` then referees the claim that these very elements see what was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from cnnscope.analysis import positions, receptive_field
from cnnscope.ops.fields.layout import State

if TYPE_CHECKING:
    from cnnscope.ops.fields import rules
    from cnnscope.records.summary import UnitMap
    from cnnscope.records.trace import Trace

Place = dict[int, list[int]]  # indices along each dimension that holds positions
Finder = Callable[[int, int, int], Place | None]


def finder(trace: Trace) -> Finder:
    """A function from a tensor's id, an axis and one of its units to where that lies in the tensor.

    It gives every index of channels and of other axes that stand beside the axis in a dimension,
    and None where the layout does not tell units apart as the tensor's field does.
    """

    @cache
    def states() -> Sequence[rules.Seen]:
        found = positions.positions(trace)
        return receptive_field.states(trace, found) if found is not None else ()

    def place(tensor: int, axis: int, unit: int) -> Place | None:
        state, field = states()[tensor], receptive_field.fields(trace)[tensor]
        units = field.maps[axis] if field is not None and not field.unknown else None
        if not isinstance(state, State) or units is None:
            return None
        return _place(state, axis, unit) if _told_apart(state, axis, units) else None

    return place


def _told_apart(state: State, axis: int, units: UnitMap) -> bool:
    """Return True if units are those of the field, and the layout has all their digits."""
    spans, size = state.axes[axis].spans, 1
    if spans is None or tuple(map(receptive_field.pixels, spans)) != (units.lo, units.hi):
        return False
    for weight, digits in sorted((a.weight, a.size) for d in state.layout for a in d
                                 if a.axis == axis and a.size > 1):  # fmt: skip
        if weight != size:
            return False
        size *= digits
    return size == len(units.lo)


def _place(state: State, axis: int, unit: int) -> Place:
    found: Place = {}
    for dim in state.dims_of(axis):
        indices = [0]
        for atom in state.layout[dim]:
            digits: Sequence[int] = range(atom.size)
            if atom.axis == axis:
                digits = (unit // atom.weight % atom.size,)
            indices = [index * atom.size + digit for index in indices for digit in digits]
        found[dim] = indices
    return found
