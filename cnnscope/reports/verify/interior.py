"""Interior units: measured in the middle of a canvas that is larger than their fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnscope.records.rf import AxisCheck
from cnnscope.reports.verify.canvas import Canvas, Canvases
from cnnscope.reports.verify.meter import Meter
from cnnscope.reports.verify.tasks import Task, groups, interval, needed, neighbours

if TYPE_CHECKING:
    from cnnscope.measure import gradient


def measure(canvases: Canvases, meter: Meter, tasks: Sequence[Task], axis: int) -> list[Task]:
    """Measure on canvases that suffice; the tasks that could not be are returned."""
    left: list[Task] = []
    for group in groups(tasks, (axis,)):
        if meter.deadline.over:
            meter.give_up(group, meter.deadline.reason)
            continue
        canvas = canvases.larger(axis, max(needed(t, axis) for t in group), group)
        if canvas is None:
            left += group
            continue
        again = _compare(canvases, canvas, meter, axis, group)
        for task in again:  # before it is called a difference: more room on every side
            roomy = canvases.larger(axis, 2 * needed(task, axis), [task], roomy=True)
            if roomy is None or _compare(canvases, roomy, meter, axis, [task], final=True):
                left.append(task)
    return left


def _compare(
    canvases: Canvases,
    canvas: Canvas,
    meter: Meter,
    axis: int,
    tasks: Sequence[Task],
    *,
    final: bool = False,
) -> list[Task]:
    """Measure units in the middle of a canvas; the tasks that differ or could not be."""
    roots = {}
    for task in tasks:
        root = _middle(canvas, task, axis)
        if root is not None and canvases.alone(task, axis, root.dim or 0):
            roots[task.target] = root
    found = meter.measure(canvas, list(roots.values()), canvas.grows[axis])
    left = []
    for task in tasks:
        result = found.get(task.target)
        if isinstance(result, str):
            meter.refuse(task, result)
            continue
        if result is None:
            left.append(task)
            continue
        check = _check(task, axis, canvas.size[axis], roots[task.target], result)
        if check.equal or final:
            meter.note(task, check)
        else:
            left.append(task)
    return left


def _middle(canvas: Canvas, task: Task, axis: int) -> gradient.Root | None:
    """Neighbouring units in the middle of the canvas; None where the layer does not grow."""
    from cnnscope.measure.gradient import Root

    if task.target not in canvas.tape.targets:
        return None
    tensor, _ = canvas.tape.targets[task.target]
    dims = canvas.grows[axis].dims.get(tensor, {})
    units = task.field.maps[axis]
    if len(dims) != 1 or units is None:
        return None
    ((dim, increase),) = dims.items()
    if abs(increase * units.step - canvas.step * len(units.first)) > units.step:
        return None  # it holds some digits of the position only: the number of a window
    size, count = canvas.tape.shapes[tensor][dim], neighbours(units)
    # the unit whose field is centred on the canvas
    middle = next(
        (u for u in range(size) if sum(units.unclipped(u)) >= canvas.size[axis] - 1), size // 2
    )
    first = min(max(middle - count // 2, 0), max(size - count, 0))
    return Root(task.target, dim, tuple(range(first, min(first + count, size))))


def _check(
    task: Task, axis: int, canvas: int, root: gradient.Root, result: list[list[tuple[int, int]]]
) -> AxisCheck:
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101
    computed = tuple(interval(*units.unclipped(u)) for u in root.units)
    measured = tuple(intervals[axis] for intervals in result)
    return AxisCheck(axis, "interior", canvas, root.units, computed, measured, computed == measured)
