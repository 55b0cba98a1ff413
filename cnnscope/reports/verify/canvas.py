"""Forwards of one model, recorded on inputs of several sizes (canvases)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.analysis import elements, positions
from cnnscope.records.trace import Shape, Trace
from cnnscope.reports.verify.tasks import Task

if TYPE_CHECKING:
    from cnnscope.measure import gradient

SHORT = 32  # pixels of the axes that are not measured, where the model allows it


class Canvas(NamedTuple):
    """A recorded forward, and which dimensions of its tensors grow with each axis."""

    tape: gradient.Tape
    grows: tuple[gradient.Growth, ...]
    step: int  # by which the axis was grown
    size: Shape  # of the axes

    def shared(self, tensor: int, dim: int, axis: int) -> bool:
        """True if a dimension grows with another axis: windows are numbered along all of them."""
        others = (grows for a, grows in enumerate(self.grows) if a != axis)
        return any(dim in grows.dims.get(tensor, {}) for grows in others)


class Canvases:
    """Records a model on inputs of other sizes.

    Args:
        trace: of the model.
        model: the module, on the meta device.
    """

    def __init__(self, trace: Trace, model: Any) -> None:
        self.model, self.form, self.trace = model, trace.form, trace
        self.inputs = _given(trace)
        self.size = next(
            (tuple(one.shape[d] for d in one.axes) for one in self.inputs if one.watched), ()
        )
        self.count = len(self.size)
        self.place = elements.finder(trace)

    def shape(self, tensor: int) -> Shape:
        """Sizes of a tensor of the trace."""
        return self.trace.tensors[tensor].shape

    @cached_property
    def tape(self) -> gradient.Tape:
        """The forward at the input's own size."""
        return self._run(self.size)

    @cached_property
    def own(self) -> Canvas:
        """The input's own size, with what grows as far as the model runs alike on others."""
        grows = []
        for axis in range(self.count):
            some = [self._growing(self.tape, self.size, axis, n) for n in (32, self.size[axis])]
            grows.append(max(some, key=lambda growth: growth.steps))
        return Canvas(self.tape, tuple(grows), 0, self.size)

    def alone(self, task: Task, axis: int, dim: int) -> bool:
        """True if a dimension holds an axis and nothing else.

        It has the axis's length at the input's size. Where it is not one of the last, as in an
        image, it must not grow with another axis either.
        """
        tensor, _ = self.tape.targets.get(task.target, (-1, 0))
        if tensor < 0:
            return True
        shape = self.tape.shapes[tensor]
        if shape[dim] != task.axes[axis].units:
            return False
        return dim >= len(shape) - self.count or not self.own.shared(tensor, dim, axis)

    def larger(
        self, axis: int, needed: int, tasks: Sequence[Task], *, roomy: bool = False
    ) -> Canvas | None:
        """The smallest canvas of at least `needed` pixels on which the model runs as it does.

        Its size leaves the remainder that the input leaves (some models pad by what is left), and
        its other axes are as short as they can be.
        """
        strides = {int(a.stride) for t in tasks for a in t.axes if a.stride and a.stride >= 1}
        period = lcm(*strides, 32)
        for step in (period, self.size[axis]):
            if step > 2048:
                continue
            rest = self.size[axis] % step
            length = rest + -(-(needed - rest) // step) * step
            for others in self._others(axis, step, length, roomy=roomy):
                size = tuple(length if a == axis else n for a, n in enumerate(others))
                canvas = self._record(size, axis, step, tasks)
                if canvas is not None:
                    return canvas
        return None

    def _others(self, axis: int, step: int, length: int, *, roomy: bool) -> Iterable[Shape]:
        """Sizes for the other axes, ascending."""
        if not roomy:
            for short in (SHORT, 64, 128, length):
                yield tuple(
                    n
                    if a == axis or n <= short
                    else n % step + -(-(short - n % step) // step) * step
                    for a, n in enumerate(self.size)
                )
        yield self.size

    def _record(self, size: Shape, axis: int, step: int, tasks: Sequence[Task]) -> Canvas | None:
        """Record on a canvas; None if the model runs otherwise on one that is a step longer."""
        tape = self._run(size)
        if any(t.target not in tape.targets for t in tasks):
            return None
        grows = self._growing(tape, size, axis, step)
        if any(tape.targets[t.target][0] not in grows.dims for t in tasks):
            return None
        return Canvas(tape, (grows,) * self.count, step, size)  # only this axis is asked for

    def _growing(self, tape: gradient.Tape, size: Shape, axis: int, step: int) -> gradient.Growth:
        """Dimensions that grow with an axis, as far as the model runs alike on a longer one."""
        from cnnscope.measure import gradient

        longer = tuple(n + step * (a == axis) for a, n in enumerate(size))
        return gradient.growing(tape, self._run(longer))

    def _run(self, size: Shape) -> gradient.Tape:
        """Record a forward on inputs of another size."""
        from cnnscope.measure import gradient

        resized = []
        for one in self.inputs:
            at = dict(zip(one.axes, size, strict=False))  # none of an input without positions
            shape = tuple(at.get(d, n) for d, n in enumerate(one.shape))
            resized.append(one._replace(shape=shape))
        return gradient.record(self.model, resized, form=self.form)


def _given(trace: Trace) -> list[gradient.Given]:
    """The inputs as the probe is given them.

    Fields are about the positions of one of them; others of its size grow as it does.
    """
    from cnnscope.measure.gradient import Given

    specs, found = trace.input_specs, positions.positions(trace)
    if found is None:
        return [Given(one.shape, (), one.dtype) for one in specs]
    size = found.size(specs[found.input].shape)

    def axes(number: int, shape: Shape) -> tuple[int, ...]:
        rank = len(shape)
        alike = (found.dims, tuple(range(rank - len(size), rank)))
        fitting = (d for d in alike if max(d) < rank and tuple(shape[i] for i in d) == size)
        return found.dims if number == found.input else next(fitting, ())

    return [
        Given(one.shape, axes(n, one.shape), one.dtype, watched=n == found.input)
        for n, one in enumerate(specs)
    ]
