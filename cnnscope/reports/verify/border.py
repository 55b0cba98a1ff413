"""The input's own size: what units see of it, its borders included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnscope.records.rf import AxisCheck
from cnnscope.records.summary import UnitMap
from cnnscope.reports.verify.canvas import Canvases
from cnnscope.reports.verify.meter import Meter, Result
from cnnscope.reports.verify.tasks import Task, interval

if TYPE_CHECKING:
    from cnnscope.measure import gradient


_SPLIT = (
    "a reshape has split or joined the positions along this axis, so that no single unit of the "
    "output can be chosen; measure a layer before the reshape"
)


def measure(canvases: Canvases, meter: Meter, tasks: Sequence[Task], axis: int) -> None:
    """Compare what units see of the input itself, borders and all."""
    roots: dict[gradient.Target, gradient.Root] = {}
    wanted = [t for t in tasks if t.field.maps[axis] is not None and t.target not in meter.reasons]
    for task in wanted:
        root = _root(canvases, task, axis)
        if isinstance(root, str):
            meter.refuse(task, root)
        else:
            roots[task.target] = root
    if not roots:
        return
    own = canvases.own
    lines, elements = ([r for r in roots.values() if bool(r.places) == e] for e in (False, True))
    found = meter.measure(own, lines, own.grows[axis]) if lines else {}
    found |= meter.measure(own, elements, None) if elements else {}  # nothing of theirs is cut
    for task in wanted:
        if task.target in roots:
            _settle(meter, task, axis, canvases.size[axis], roots[task.target], found[task.target])


def _settle(
    meter: Meter, task: Task, axis: int, size: int, root: gradient.Root, result: Result
) -> None:
    if isinstance(result, str):
        meter.refuse(task, result)
    else:
        meter.note(task, _check(task, axis, size, root, result))


def _root(canvases: Canvases, task: Task, axis: int) -> gradient.Root | str:
    """Some units: along the dimension that grows as the axis does, else where the layout has them.

    Sizes alone do not tell: windows, positions in one and channels may be as many as units.
    """
    from cnnscope.measure.gradient import Root

    canvas = canvases.own
    if task.target not in canvas.tape.targets:
        why = canvas.tape.failure or "another path was taken, as data or chance may decide"
        return f"the layer did not run when the model was run again to measure: {why}"
    tensor, _ = canvas.tape.targets[task.target]
    known = canvas.grows[axis].dims.get(tensor)
    if known is None and task.axes[axis].size is None and task.field.global_context:
        return (
            "the model runs other operations at other input sizes, so that what depends on the "
            "whole image cannot be distinguished from what a unit sees; try another --input"
        )
    units = _some(task.field.maps[axis])
    shape, count = canvas.tape.shapes[tensor], task.axes[axis].units
    if known is not None and len(known) == 1:
        (dim,) = known
        if shape[dim] == count and not canvas.shared(tensor, dim, axis):
            return Root(task.target, dim, units)
    if canvases.shape(task.row.tensor) != shape:
        return "the model ran other operations when it was run again to measure"
    places = [canvases.place(task.row.tensor, axis, unit) for unit in units]
    if None in places or task.field.global_context:
        return _SPLIT
    return Root(task.target, None, units, tuple(p for p in places if p is not None))


def _some(units: UnitMap | None) -> tuple[int, ...]:
    """The first, the middle and the last unit."""
    count = len(units.lo) if units is not None else 0
    return tuple(sorted({0, count // 2, count - 1}))


def _check(
    task: Task, axis: int, size: int, root: gradient.Root, result: list[list[tuple[int, int]]]
) -> AxisCheck:
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101
    computed = tuple(interval(units.lo[u], units.hi[u]) for u in root.units)
    measured = tuple(intervals[axis] for intervals in result)
    return AxisCheck(axis, "input", size, root.units, computed, measured, computed == measured)
