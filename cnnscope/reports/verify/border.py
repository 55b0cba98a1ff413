"""The input's own size: what units see of it, its borders included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cnnscope.records.rf import AxisCheck
from cnnscope.records.summary import UnitMap
from cnnscope.reports.verify.canvas import Canvas, Canvases
from cnnscope.reports.verify.meter import Meter, Result
from cnnscope.reports.verify.tasks import Task, interval

if TYPE_CHECKING:
    from cnnscope.measure import gradient


def measure(canvases: Canvases, meter: Meter, tasks: Sequence[Task], axis: int) -> None:
    """Compare what units see of the input itself, borders and all."""
    wanted = [t for t in tasks if t.field.maps[axis] is not None and t.target not in meter.reasons]
    if not wanted:
        return
    dims: dict[gradient.Target, list[int]] = {}
    for task in wanted:
        fitting = _dimensions(canvases.own, task, axis)
        if isinstance(fitting, str):
            meter.refuse(task, fitting)
        else:
            dims[task.target] = fitting
    found = _along(canvases.own, meter, [t for t in wanted if t.target in dims], axis, dims)
    for task in wanted:
        if task.target in found:
            _settle(meter, task, axis, canvases.size[axis], found[task.target])


def _along(
    canvas: Canvas,
    meter: Meter,
    tasks: Sequence[Task],
    axis: int,
    dims: Mapping[gradient.Target, list[int]],
) -> dict[gradient.Target, list[tuple[gradient.Root, Result]]]:
    """Measure some units along every dimension that may be the axis."""
    from cnnscope.measure import gradient

    found: dict[gradient.Target, list[tuple[gradient.Root, Result]]] = {}
    for turn in range(max(map(len, dims.values()), default=0)):
        roots = [
            gradient.Root(t.target, dims[t.target][turn], _some(t.field.maps[axis]))
            for t in tasks
            if turn < len(dims[t.target])
        ]
        measured = meter.measure(canvas, roots, canvas.grows[axis])
        for root in roots:
            found.setdefault(root.target, []).append((root, measured[root.target]))
    return found


def _settle(
    meter: Meter, task: Task, axis: int, size: int, found: Sequence[tuple[gradient.Root, Result]]
) -> None:
    """Compare along the dimension that moves what is seen: the axis is the one that does."""
    good = [(root, result) for root, result in found if not isinstance(result, str)]
    if not good:
        meter.refuse(task, next(r for _, r in found if isinstance(r, str)))
        return
    moving = [(root, r) for root, r in good if len({tuple(unit[axis]) for unit in r}) > 1]
    if len(moving) > 1:
        meter.refuse(task, "which of its dimensions is which is not known")
        return
    root, result = (moving or good)[0]
    meter.note(task, _check(task, axis, size, root, result))


def _some(units: UnitMap | None) -> tuple[int, ...]:
    """The first, the middle and the last unit."""
    count = len(units.lo) if units is not None else 0
    return tuple(sorted({0, count // 2, count - 1}))


def _dimensions(canvas: Canvas, task: Task, axis: int) -> list[int] | str:
    """The dimensions of a layer's output that may be an axis, or why there is none."""
    if task.target not in canvas.tape.targets:
        why = canvas.tape.failure or "another path was taken, as data or chance may decide"
        return f"the layer did not run when the model was run again to measure: {why}"
    tensor, _ = canvas.tape.targets[task.target]
    known = canvas.grows[axis].dims.get(tensor)
    shape, units = canvas.tape.shapes[tensor], task.axes[axis].units
    if known is None and task.axes[axis].size is None and task.field.global_context:
        return (
            "the model runs other operations at other input sizes, so that what depends on the "
            "whole image cannot be distinguished from what a unit sees; try another --input"
        )
    fitting = [d for d in known or range(len(shape)) if shape[d] == units]
    shared = any(canvas.shared(tensor, dim, axis) for dim in known or ())
    if not fitting or len(known or ()) > 1 or shared:
        return (
            "a reshape has split or joined the positions along this axis, so that no single unit "
            "of the output can be chosen; measure a layer before the reshape"
        )
    return fitting


def _check(
    task: Task, axis: int, size: int, root: gradient.Root, result: list[list[tuple[int, int]]]
) -> AxisCheck:
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101
    computed = tuple(interval(units.lo[u], units.hi[u]) for u in root.units)
    measured = tuple(intervals[axis] for intervals in result)
    return AxisCheck(axis, "input", size, root.units, computed, measured, computed == measured)
