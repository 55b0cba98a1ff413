"""From a trace and its model to the report of `cnnscope rf --verify`: computed beside measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import lcm, prod
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope import parallel
from cnnscope.analysis import growth, layers, positions, receptive_field
from cnnscope.deadline import Deadline
from cnnscope.errors import RequestError
from cnnscope.records import (
    AxisCheck,
    AxisField,
    Field,
    LayerCheck,
    LayerRow,
    Shape,
    Trace,
    UnitMap,
    VerifyReport,
)

if TYPE_CHECKING:
    from cnnscope.measure import gradient

CHOSEN = 30  # layers measured where nothing else is asked
Progress = Callable[[int, int], None]  # done, of how many
_UNITS = 3  # neighbouring units measured, at the least
_MOST_UNITS = 17
_SHORT = 32  # pixels of the axes that are not measured, where the model allows it
_LONG = 20  # seconds that are announced
_FORWARD, _BACK = (
    3,
    0.5,
)  # the pace of replaying, and of going back to it: half the way, as layers are
_COPIES = 3  # of what is alive at once: made anew, kept for gradients, gradients


class _Task(NamedTuple):
    """A layer to be measured."""

    row: LayerRow
    field: Field
    target: gradient.Target

    @property
    def axes(self) -> tuple[AxisField, ...]:
        return self.field.axes


class Chosen(NamedTuple):
    """Layers whose fields are measured, and how many they stand for."""

    rows: list[LayerRow]
    total: int
    fields: int


def verify(
    trace: Trace,
    model: Any,
    layer: str | None = None,
    *,
    every: bool = False,
    deadline: Deadline | None = None,
    progress: Progress = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
) -> VerifyReport:
    """Measure receptive fields by the gradient of a linear stand-in, beside those computed.

    Args:
        trace: of the model.
        model: the module, on the meta device.
        layer: dotted path of the only layer; left out, the last layer of every different field,
            at most `CHOSEN` of them.
        every: each layer that has a field.
        deadline: after which nothing more is measured.
        progress: told what is done.
        tell: told beforehand what is coming, where that takes long.

    Raises:
        RequestError: there is no such layer, or it sees nothing of the input.
    """
    fields = receptive_field.fields(trace)
    rows = layers.rows(trace, fields)
    chosen = choose(rows, fields, layer, every=every)
    notes = () if trace.device == "meta" else ("the trace was made with values",)
    return VerifyReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=_measured(trace, model, chosen.rows, fields, progress, _Limits(deadline, tell)),
        total=chosen.total,
        fields=chosen.fields,
        notes=notes,
    )


def verify_largest(trace: Trace, model: Any, deadline: Deadline | None = None) -> LayerCheck:
    """Measure the layer of `growth.largest_regular`: what the network sees at most of any image.

    Args:
        trace: of the model.
        model: the module, on the meta device.
        deadline: after which it is given up.

    Raises:
        RequestError: no layer has such a field.
    """
    fields = receptive_field.fields(trace)
    row = growth.largest_regular(layers.rows(trace, fields))
    if row is None:
        raise RequestError("no layer has a receptive field that is alike for images of any size")
    (check,) = _measured(trace, model, [row], fields, lambda *_: None, _Limits(deadline))
    return check


def _measured(
    trace: Trace,
    model: Any,
    rows: Sequence[LayerRow],
    fields: Sequence[Field | None],
    progress: Progress,
    limits: _Limits,
) -> tuple[LayerCheck, ...]:
    """Each row's field, computed and measured."""
    targets = _targets(trace)
    tasks, refused = [], []
    for row in rows:
        field = fields[row.tensor]
        if field is None or field.unknown:
            refused.append(LayerCheck(row.path, row.call, (), reason="its field is not known"))
        else:
            target = _target(row, targets)
            tasks.append(_Task(row, field, target))
    measured = _Session(trace, model, progress, limits).run(tasks) if tasks else []
    found = {(c.path, c.call): c for c in (*refused, *measured)}
    return tuple(found[row.path, row.call] for row in rows)


def choose(
    rows: Sequence[LayerRow],
    fields: Sequence[Field | None],
    layer: str | None,
    *,
    every: bool = False,
    most: int = CHOSEN,
) -> Chosen:
    """The layers to be measured: one, every one, or the last of every different field.

    There are none where no layer has a field.

    Raises:
        RequestError: there is no such layer, or it sees nothing of the input.
    """
    if layer is not None:
        row = layers.find(rows, layer)
        if row.tensor < 0 or fields[row.tensor] is None:
            raise RequestError(f"{layer}: sees nothing of the input")
        return Chosen([row], 1, 1)
    leaves = [row for row in rows if row.leaf and not row.minor
              and (row.field or row.field_unknown)]  # fmt: skip
    count = len({growth.seen(row) for row in leaves})
    chosen = leaves if every else growth.different(leaves, most)
    return Chosen(chosen, len(leaves), count)


def _target(row: LayerRow, targets: Mapping[int, gradient.Target]) -> gradient.Target:
    from cnnscope.measure.gradient import Target

    if row.kind == "module":
        return Target(row.path, row.call)
    return targets.get(row.tensor, Target(row.path, 0))


def _targets(trace: Trace) -> dict[int, gradient.Target]:
    """Where each operation's first output is made: module call, name, how manieth of that name."""
    from cnnscope.measure.gradient import Target

    seen: Counter[tuple[int, str]] = Counter()
    found = {}
    for record in trace.ops:
        if record.call >= 0 and record.outputs and not record.name.startswith("cnnscope."):
            key = (record.call, record.name)
            found[record.outputs[0]] = Target(
                *trace.index.keys[record.call], record.name, seen[key]
            )
            seen[key] += 1
    return found


# ------------------------------------------------------------------------------- measuring


_Result = list[list[tuple[int, int]]] | str  # as `probe.measure` gives it


class _Limits:
    """How long measuring may take, and how much memory; what is coming is told beforehand."""

    def __init__(
        self, deadline: Deadline | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.deadline, self.tell = deadline or Deadline(), tell

    def announce(self, tasks: int, elements: float) -> None:
        """Say what it will take, where that is long."""
        from cnnscope.measure import gradient

        expected = elements * gradient.pace()
        seconds = self.deadline.seconds
        if expected > _LONG and (seconds is None or expected > seconds):
            duration = f"{expected:.0f} s" if expected < 100 else f"{expected / 60:.0f} min"
            stops = f"stops after {seconds:g} s" if seconds else "--seconds N stops earlier"
            self.tell(f"measuring {tasks} fields takes about {duration}; {stops}")


class _Canvas(NamedTuple):
    """A recorded forward, and which dimensions of its tensors grow with each axis."""

    tape: gradient.Tape
    grows: tuple[gradient.Growth, ...]
    step: int  # by which the axis was grown
    size: Shape  # of the axes


class _Session:
    """Canvases for one model, and what was measured on them."""

    def __init__(self, trace: Trace, model: Any, progress: Progress, limits: _Limits) -> None:
        self.model, self.progress, self.as_list = model, progress, trace.as_list
        self.limits = limits
        self.inputs = _given(trace)
        self.size = next(
            (tuple(one.shape[d] for d in one.axes) for one in self.inputs if one.watched), ()
        )
        self.count = len(self.size)
        self.checks: dict[gradient.Target, list[AxisCheck]] = {}
        self.reasons: dict[gradient.Target, str] = {}
        self.done = self.total = 0
        self.own: _Canvas | None = None
        self.given: gradient.Tape | None = None

    def run(self, tasks: Sequence[_Task]) -> list[LayerCheck]:
        """Small canvases first, every axis of one before the next: the time may not suffice."""
        self.total = len(tasks) * self.count
        self._announce(tasks)
        self.progress(0, self.total)
        left: list[list[_Task]] = [[] for _ in range(self.count)]
        for group in _groups(tasks, range(self.count)):
            for axis in range(self.count):
                regular = [t for t in group if _regular(t.field, axis)]
                left[axis] += [t for t in group if not _regular(t.field, axis)]
                left[axis] += self._interior(regular, axis)
        for axis in range(self.count):
            self._at_input(left[axis], axis)
        self._whole([t for t in tasks if any(a.size is None for a in t.axes)])
        return [self._check(task) for task in tasks]

    def _announce(self, tasks: Sequence[_Task]) -> None:
        from cnnscope.measure import gradient

        elements = gradient.size(self._tape()).elements / prod(self.size)  # for each pixel
        work = 0.0
        for group in _groups(tasks, range(self.count)):
            for axis in range(self.count):
                regular = [t for t in group if _regular(t.field, axis)]
                if regular:
                    length = max(_needed(t, axis) for t in regular)
                    others = (min(n, _SHORT) for a, n in enumerate(self.size) if a != axis)
                    work += length * prod(others) * (1 + _BACK * _UNITS * len(regular))
        self.limits.announce(len(tasks), work * elements * _FORWARD)

    def _give_up(self, tasks: Sequence[_Task], reason: str) -> None:
        for task in tasks:
            self.reasons.setdefault(task.target, reason)

    def _measure(
        self, canvas: _Canvas, roots: Sequence[gradient.Root], grows: gradient.Growth | None
    ) -> dict[gradient.Target, _Result]:
        """Measure as far as time and memory suffice; the reason is given where they do not."""
        from cnnscope.measure import gradient

        short = _short_of_memory(canvas.tape, canvas.size)
        deadline = self.limits.deadline
        if short or deadline.over:
            return {root.target: short or deadline.reason for root in roots}
        found = gradient.measure(canvas.tape, roots, grows, self._advance, deadline.end)
        return {t: deadline.reason if r == gradient.LATE else r for t, r in found.items()}

    def _check(self, task: _Task) -> LayerCheck:
        checks = sorted(self.checks.get(task.target, ()), key=lambda c: (c.axis, c.how == "whole"))
        reason = self.reasons.get(task.target, "")
        return LayerCheck(task.row.path, task.row.call, task.axes, tuple(checks), reason)

    def _advance(self) -> None:
        self.done = min(self.done + 1, self.total)
        self.progress(self.done, self.total)

    # -- interior units of a canvas larger than their fields

    def _interior(self, tasks: Sequence[_Task], axis: int) -> list[_Task]:
        """Measure on canvases that suffice; the tasks that could not be are returned."""
        left: list[_Task] = []
        for group in _groups(tasks, (axis,)):
            if self.limits.deadline.over:
                self._give_up(group, self.limits.deadline.reason)
                continue
            canvas = self._larger(axis, max(_needed(t, axis) for t in group), group)
            if canvas is None:
                left += group
                continue
            again = self._compare(canvas, axis, group)
            for task in again:  # before it is called a difference: more room on every side
                roomy = self._larger(axis, 2 * _needed(task, axis), [task], roomy=True)
                if roomy is None or self._compare(roomy, axis, [task], final=True):
                    left.append(task)
        return left

    def _larger(
        self, axis: int, needed: int, tasks: Sequence[_Task], *, roomy: bool = False
    ) -> _Canvas | None:
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
            for short in (_SHORT, 64, 128, length):
                yield tuple(
                    n
                    if a == axis or n <= short
                    else n % step + -(-(short - n % step) // step) * step
                    for a, n in enumerate(self.size)
                )
        yield self.size

    def _record(self, size: Shape, axis: int, step: int, tasks: Sequence[_Task]) -> _Canvas | None:
        """Record on a canvas; None if the model runs otherwise on one that is a step longer."""
        tape = self._run(size)
        if any(t.target not in tape.targets for t in tasks):
            return None
        grows = self._growing(tape, size, axis, step)
        if any(tape.targets[t.target][0] not in grows.dims for t in tasks):
            return None
        return _Canvas(tape, (grows,) * self.count, step, size)  # only this axis is asked for

    def _growing(self, tape: gradient.Tape, size: Shape, axis: int, step: int) -> gradient.Growth:
        """Which dimensions grow with an axis, as far as the model runs alike on a longer one."""
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
        return gradient.record(self.model, resized, as_list=self.as_list)

    def _compare(
        self, canvas: _Canvas, axis: int, tasks: Sequence[_Task], *, final: bool = False
    ) -> list[_Task]:
        """Measure units in the middle of a canvas; the tasks that differ or could not be."""
        grows = canvas.grows[axis]
        roots = {}
        for task in tasks:
            root = _middle(canvas, task, axis)
            if root is not None and self._alone(task, axis, root.dim or 0):
                roots[task.target] = root
        found = self._measure(canvas, list(roots.values()), grows)
        left = []
        for task in tasks:
            result = found.get(task.target)
            if result is None or isinstance(result, str):
                if isinstance(result, str):
                    self.reasons[task.target] = result
                    continue
                left.append(task)
                continue
            check = _interior_check(task, axis, canvas.size[axis], roots[task.target], result)
            if check.equal or final:
                self._note(task, check)
            else:
                left.append(task)
        return left

    def _note(self, task: _Task, check: AxisCheck) -> None:
        self.checks.setdefault(task.target, []).append(check)

    # -- the input's own size

    def _at_input(self, tasks: Sequence[_Task], axis: int) -> None:
        """Compare what units see of the input itself, borders and all."""
        wanted = [t for t in tasks if t.field.maps[axis] is not None
                  and t.target not in self.reasons]  # fmt: skip
        if not wanted:
            return
        canvas = self._given()
        rounds: dict[gradient.Target, list[int]] = {}
        for task in wanted:
            dims = _dimensions(canvas, task, axis)
            if isinstance(dims, str):
                self.reasons[task.target] = dims
            else:
                rounds[task.target] = dims
        found = self._along(canvas, [t for t in wanted if t.target in rounds], axis, rounds)
        for task in wanted:
            if task.target in found:
                self._settle(task, axis, found[task.target])

    def _along(
        self,
        canvas: _Canvas,
        tasks: Sequence[_Task],
        axis: int,
        dims: Mapping[gradient.Target, list[int]],
    ) -> dict[gradient.Target, list[tuple[gradient.Root, _Result]]]:
        """Measure some units along every dimension that may be the axis."""
        from cnnscope.measure import gradient

        found: dict[gradient.Target, list[tuple[gradient.Root, _Result]]] = {}
        for turn in range(max(map(len, dims.values()), default=0)):
            roots = [
                gradient.Root(t.target, dims[t.target][turn], _some(t.field.maps[axis]))
                for t in tasks
                if turn < len(dims[t.target])
            ]
            measured = self._measure(canvas, roots, canvas.grows[axis])
            for root in roots:
                found.setdefault(root.target, []).append((root, measured[root.target]))
        return found

    def _settle(
        self, task: _Task, axis: int, found: Sequence[tuple[gradient.Root, _Result]]
    ) -> None:
        """Compare along the dimension that moves what is seen: the axis is the one that does."""
        good = [(root, result) for root, result in found if not isinstance(result, str)]
        if not good:
            self.reasons[task.target] = next(r for _, r in found if isinstance(r, str))
            return
        moving = [(root, r) for root, r in good if len({tuple(unit[axis]) for unit in r}) > 1]
        if len(moving) > 1:
            self.reasons[task.target] = "which of its dimensions is which cannot be told"
            return
        root, result = (moving or good)[0]
        self._note(task, _input_check(task, axis, self.size[axis], root, result))

    def _given(self) -> _Canvas:
        """The input's own size, with what grows as far as the model runs alike on others."""
        if self.own is None:
            tape = self._tape()
            grows = []
            for axis in range(self.count):
                some = [self._growing(tape, self.size, axis, n) for n in (32, self.size[axis])]
                grows.append(max(some, key=lambda growth: growth.steps))
            self.own = _Canvas(tape, tuple(grows), 0, self.size)
        return self.own

    def _tape(self) -> gradient.Tape:
        """The forward at the input's own size."""
        if self.given is None:
            self.given = self._run(self.size)
        return self.given

    def _alone(self, task: _Task, axis: int, dim: int) -> bool:
        """Whether a dimension holds an axis and nothing else, by its length at the input's size."""
        tape = self._tape()
        tensor, _ = tape.targets.get(task.target, (-1, 0))
        return tensor < 0 or tape.shapes[tensor][dim] == task.axes[axis].units

    def _whole(self, tasks: Sequence[_Task]) -> None:
        """Compare how much of the input a function of the whole image sees."""
        tasks = [t for t in tasks if t.target not in self.reasons]
        if not tasks:
            return
        self.total += len(tasks)
        canvas = self._given()
        roots = [_anywhere(canvas, task) for task in tasks]
        found = self._measure(canvas, roots, None)
        for task, root in zip(tasks, roots, strict=True):
            result = found[task.target]
            if isinstance(result, str):
                self.reasons[task.target] = result
                continue
            for axis, field in enumerate(task.axes):
                if field.size is None:
                    self._note(task, _whole_check(field, axis, root, result[0][axis]))


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


def _regular(field: Field, axis: int) -> bool:
    units = field.maps[axis]
    return units is not None and bool(units.first)


def _groups(tasks: Sequence[_Task], axes: Iterable[int]) -> Iterator[list[_Task]]:
    """Tasks that share a canvas, small ones first."""

    def needed(task: _Task) -> int:
        return max((_needed(task, a) for a in axes if _regular(task.field, a)), default=0)

    queue = sorted(tasks, key=needed)
    while queue:
        group = [t for t in queue if needed(t) <= 1.5 * needed(queue[0])]
        queue = queue[len(group) :]
        yield group


def _short_of_memory(tape: gradient.Tape, size: Shape) -> str:
    """What a canvas needs beyond what is free, or nothing."""
    from cnnscope.measure import gradient

    needed, free = _COPIES * 8 * gradient.size(tape).peak, parallel.free_memory()
    if free is None or needed <= free:
        return ""
    gib = [f"{n / 2**30:.1f} GiB" for n in (needed, free)]
    return f"a canvas of {'x'.join(map(str, size))} px needs about {gib[0]}, and {gib[1]} are free"


def _units(units: UnitMap) -> int:
    return min(max(_UNITS, len(units.first) + 1), _MOST_UNITS)


def _needed(task: _Task, axis: int) -> int:
    """Pixels for some neighbouring units and their fields, with room on both sides."""
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101  only regular ones are asked
    stride = -(-units.step // len(units.first))
    extent = max(units.last) - min(units.first) + 1
    return max(extent, 1) + (_units(units) + 1) * stride + 2 * (2 * stride + 8)


def _middle(canvas: _Canvas, task: _Task, axis: int) -> gradient.Root | None:
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
    size, count = canvas.tape.shapes[tensor][dim], _units(units)
    # the unit whose field is centred on the canvas
    middle = next(
        (u for u in range(size) if sum(units.unclipped(u)) >= canvas.size[axis] - 1), size // 2
    )
    first = min(max(middle - count // 2, 0), max(size - count, 0))
    return Root(task.target, dim, tuple(range(first, min(first + count, size))))


def _some(units: UnitMap | None) -> tuple[int, ...]:
    """The first, the middle and the last unit."""
    count = len(units.lo) if units is not None else 0
    return tuple(sorted({0, count // 2, count - 1}))


def _dimensions(canvas: _Canvas, task: _Task, axis: int) -> list[int] | str:
    """The dimensions of a layer's output that may be an axis, or why there is none."""
    if task.target not in canvas.tape.targets:
        return f"not reached: {canvas.tape.failure or 'it runs otherwise'}"
    tensor, _ = canvas.tape.targets[task.target]
    known = canvas.grows[axis].dims.get(tensor)
    shape, units = canvas.tape.shapes[tensor], task.axes[axis].units
    if known is None and task.axes[axis].size is None:
        return "it runs otherwise at other input sizes: what is of the whole image is not known"
    fitting = [d for d in known or range(len(shape)) if shape[d] == units]
    if not fitting or len(known or ()) > 1:
        return "its positions do not lie along one dimension"
    return fitting


def _anywhere(canvas: _Canvas, task: _Task) -> gradient.Root:
    """A single position of a layer where it has any, else all of it."""
    from cnnscope.measure.gradient import Root

    axis = next(i for i, a in enumerate(task.axes) if a.size is None)
    if task.target in canvas.tape.targets:
        tensor, _ = canvas.tape.targets[task.target]
        dims = tuple(canvas.grows[axis].dims.get(tensor, ()))
        if len(dims) == 1:
            return Root(task.target, dims[0], (canvas.tape.shapes[tensor][dims[0]] // 2,))
    return Root(task.target, None, ())


def _interior_check(
    task: _Task, axis: int, canvas: int, root: gradient.Root, result: list[list[tuple[int, int]]]
) -> AxisCheck:
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101
    computed = tuple(_interval(*units.unclipped(u)) for u in root.units)
    measured = tuple(intervals[axis] for intervals in result)
    return AxisCheck(axis, "interior", canvas, root.units, computed, measured, computed == measured)


def _input_check(
    task: _Task, axis: int, size: int, root: gradient.Root, result: list[list[tuple[int, int]]]
) -> AxisCheck:
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101
    computed = tuple(_interval(units.lo[u], units.hi[u]) for u in root.units)
    measured = tuple(intervals[axis] for intervals in result)
    return AxisCheck(axis, "input", size, root.units, computed, measured, computed == measured)


def _whole_check(
    field: AxisField, axis: int, root: gradient.Root, measured: tuple[int, int]
) -> AxisCheck:
    least, most = field.clipped
    extent = measured[1] - measured[0] + 1
    return AxisCheck(
        axis, "whole", field.input_size, root.units if root.dim is not None else (),
        (field.clipped,), (measured,), least <= extent <= most,
    )  # fmt: skip


def _interval(first: int, last: int) -> tuple[int, int]:
    return (first, last) if first <= last else (0, -1)
