"""Functions of the whole image: how much of the input they see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnscope.records.rf import AxisCheck
from cnnscope.records.summary import AxisField
from cnnscope.reports.verify.canvas import Canvas, Canvases
from cnnscope.reports.verify.meter import Meter
from cnnscope.reports.verify.tasks import Task

if TYPE_CHECKING:
    from cnnscope.measure import gradient


def measure(canvases: Canvases, meter: Meter, tasks: Sequence[Task]) -> None:
    """Compare how much of the input a function of the whole image sees."""
    tasks = [t for t in tasks if t.target not in meter.reasons]
    if not tasks:
        return
    meter.total += len(tasks)
    roots = [_anywhere(canvases.own, task) for task in tasks]
    found = meter.measure(canvases.own, roots, None)
    for task, root in zip(tasks, roots, strict=True):
        result = found[task.target]
        if isinstance(result, str):
            meter.refuse(task, result)
            continue
        for axis, field in enumerate(task.axes):
            if field.size is None and not _one_sided(task, axis):
                meter.note(task, _check(field, axis, root, result[0][axis]))


def _anywhere(canvas: Canvas, task: Task) -> gradient.Root:
    """A single position of a layer where it has any, else all of it."""
    from cnnscope.measure.gradient import Root

    axis = next(i for i, a in enumerate(task.axes) if a.size is None)
    if task.target in canvas.tape.targets:
        tensor, _ = canvas.tape.targets[task.target]
        dims = tuple(canvas.grows[axis].dims.get(tensor, ()))
        if len(dims) == 1:
            return Root(task.target, dims[0], (canvas.tape.shapes[tensor][dims[0]] // 2,))
    return Root(task.target, None, ())


def _one_sided(task: Task, axis: int) -> bool:
    """True if units see all on one side of them, which is measured at the input's borders."""
    return task.axes[axis].local_size is None and task.field.maps[axis] is not None


def _check(
    field: AxisField, axis: int, root: gradient.Root, measured: tuple[int, int]
) -> AxisCheck:
    least, most = field.clipped
    extent = measured[1] - measured[0] + 1
    return AxisCheck(
        axis, "whole", field.input_size, root.units if root.dim is not None else (),
        (field.clipped,), (measured,), least <= extent <= most,
    )  # fmt: skip
