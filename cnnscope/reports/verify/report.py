"""From a trace and its model to the report of `cnnscope rf --verify`: computed beside measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.analysis import growth, layers, receptive_field
from cnnscope.deadline import Deadline
from cnnscope.errors import RequestError
from cnnscope.records.rf import LayerCheck, VerifyReport
from cnnscope.records.summary import Field, LayerRow
from cnnscope.records.trace import Trace
from cnnscope.reports.verify import border, interior, whole
from cnnscope.reports.verify.canvas import SHORT, Canvases
from cnnscope.reports.verify.meter import Meter, Progress
from cnnscope.reports.verify.tasks import UNITS, Task, groups, needed, regular

if TYPE_CHECKING:
    from cnnscope.measure import gradient

CHOSEN = 30  # layers measured where nothing else is asked
_LONG = 20  # seconds that are announced
# The pace of replaying, and of going back to it: half the way, as layers are.
_FORWARD, _BACK = 3, 0.5


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
        progress: called with what is done and how much there is.
        tell: called beforehand with a sentence about what takes long.

    Raises:
        RequestError: there is no such layer, or it sees nothing of the input.
    """
    fields = receptive_field.fields(trace)
    rows = layers.with_fields(trace)
    chosen = choose(rows, fields, layer, every=every)
    notes = () if trace.device == "meta" else ("the trace was made with values",)
    return VerifyReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=_measured(trace, model, chosen.rows, progress, _Limits(deadline, tell)),
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
    row = growth.largest_regular(layers.with_fields(trace))
    if row is None:
        raise RequestError("no layer has a receptive field that is alike for images of any size")
    (check,) = _measured(trace, model, [row], lambda *_: None, _Limits(deadline))
    return check


def _measured(
    trace: Trace,
    model: Any,
    rows: Sequence[LayerRow],
    progress: Progress,
    limits: _Limits,
) -> tuple[LayerCheck, ...]:
    """Each row's field, computed and measured."""
    fields, targets = receptive_field.fields(trace), _targets(trace)
    tasks, refused = [], []
    for row in rows:
        field = fields[row.tensor]
        if field is None or field.unknown:
            refused.append(LayerCheck(row.path, row.call, (), reason="its field is not known"))
        else:
            target = _target(row, targets)
            tasks.append(Task(row, field, target))
    measured = _run(trace, model, tasks, progress, limits) if tasks else []
    found = {(c.path, c.call): c for c in (*refused, *measured)}
    return tuple(found[row.path, row.call] for row in rows)


def choose(
    rows: Sequence[LayerRow],
    fields: Sequence[Field | None],
    layer: str | None,
    *,
    every: bool = False,
) -> Chosen:
    """The layers to be measured: one, every one, or the last of every different field.

    There are none where no layer has a field.

    Raises:
        RequestError: there is no such layer, or it sees nothing of the input.
    """
    if layer is not None:
        row = layers.find(rows, layer)
        if row.tensor < 0 or fields[row.tensor] is None:
            raise RequestError(f"{layer}: sees nothing of the input; name a layer that does")
        return Chosen([row], 1, 1)
    leaves = [row for row in rows if row.leaf and not row.minor
              and (row.field or row.field_unknown)]  # fmt: skip
    count = len({growth.seen(row) for row in leaves})
    chosen = leaves if every else growth.different(leaves, CHOSEN)
    return Chosen(chosen, len(leaves), count)


def _target(row: LayerRow, targets: Mapping[int, gradient.Target]) -> gradient.Target:
    from cnnscope.measure.gradient import Target

    if row.kind == "module":
        return Target(row.path, row.call)
    return targets.get(row.tensor, Target(row.path, 0))


def _targets(trace: Trace) -> dict[int, gradient.Target]:
    """Place of each operation's first output: module call, name, number of that name."""
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


class _Limits:
    """Limits of time and memory for measuring; long work is announced."""

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
            stops = f"stops after {seconds:g} s" if seconds else "a limit of seconds stops earlier"
            self.tell(f"measuring {tasks} fields takes about {duration}; {stops}")


def _run(
    trace: Trace, model: Any, tasks: Sequence[Task], progress: Progress, limits: _Limits
) -> list[LayerCheck]:
    """Small canvases first, every axis of one before the next: the time may not suffice."""
    canvases = Canvases(trace, model)
    axes = range(canvases.count)
    limits.announce(len(tasks), _elements(canvases, tasks))
    meter = Meter(limits.deadline, progress, len(tasks) * canvases.count)
    left: list[list[Task]] = [[] for _ in axes]
    for group in groups(tasks, axes):
        for axis in axes:
            alike = [t for t in group if regular(t.field, axis)]
            left[axis] += [t for t in group if not regular(t.field, axis)]
            left[axis] += interior.measure(canvases, meter, alike, axis)
    for axis in axes:
        border.measure(canvases, meter, left[axis], axis)
    whole.measure(canvases, meter, [t for t in tasks if any(a.size is None for a in t.axes)])
    return [meter.result(task) for task in tasks]


def _elements(canvases: Canvases, tasks: Sequence[Task]) -> float:
    """Elements of tensors that measuring interior units reads, changes and writes."""
    from cnnscope.measure import gradient

    work = 0.0
    for group in groups(tasks, range(canvases.count)):
        for axis in range(canvases.count):
            alike = [t for t in group if regular(t.field, axis)]
            if alike:
                length = max(needed(t, axis) for t in alike)
                others = (min(n, SHORT) for a, n in enumerate(canvases.size) if a != axis)
                work += length * prod(others) * (1 + _BACK * UNITS * len(alike))
    each = gradient.size(canvases.tape).elements / prod(canvases.size)  # for each pixel
    return work * each * _FORWARD
