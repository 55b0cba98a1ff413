"""The cost of a model as a function of a choice: its input's size, an argument, the batch size."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from msgspec.structs import replace

from cnnscope.analysis import powers
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.request import Request
from cnnscope.models.spelling import items
from cnnscope.records.bench import BenchReport
from cnnscope.records.step import Step, StepTrace
from cnnscope.records.sweep import Growth, Quantity, SweepReport, SweepRow, called
from cnnscope.records.trace import Shape, Source, Trace
from cnnscope.reports import summary
from cnnscope.text import printable

BATCH, INPUT = "batch size", "input"
_MOST = 200  # rows
_IMAGE = 2  # sizes before those of space: samples, channels
_AXES = {  # of tensors, by how many they have; a sequence may stand before its features
    1: ("length",),
    2: (BATCH, "length"),
    3: (BATCH, "length", "length"),
    4: (BATCH, "channels", "height", "width"),
    5: (BATCH, "channels", "frames", "height", "width"),
}
_PLAIN = re.compile(r"(?<![0-9])0+(?=[0-9])| ")  # 0128 is 128, and 3 x 64 x 64 is 3x64x64
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_COUNTED: tuple[Quantity, ...] = ("params", "macs", "peak_activation_bytes", "training_bytes")


class Choice(NamedTuple):
    """One row to be: its values as they are shown, as numbers where they are, and the request."""

    values: tuple[str, ...]
    numbers: tuple[float | None, ...]
    request: Request


class Sweep(NamedTuple):
    """What varies, and all choices of it."""

    varied: tuple[str, ...]
    choices: tuple[Choice, ...]


class Costs(NamedTuple):
    """A row without its values, and what the report says once of the model."""

    row: SweepRow
    source: Source
    device: str
    notes: tuple[str, ...]


# ------------------------------------------------------------------------------- what is asked


def choices(
    model: str,
    inputs: Sequence[Any],
    arguments: Mapping[str, Any],
    batch_sizes: Sequence[int],
    num_classes: int | None,
    dtype: str | None,
) -> Sweep:
    """Every combination of the values.

    Args:
        model: a name.
        inputs: values of the input, each as `Request.of` takes it.
        arguments: of the constructor; a list has the values of one.
        batch_sizes: values of the batch size.
        num_classes: of every model.
        dtype: of every model.

    Raises:
        RequestError: nothing varies, a value is given twice, or there are too many.
    """
    axes = dict(_axes(inputs, arguments, batch_sizes))
    varied = tuple(name for name, values in axes.items() if len(values) > 1)
    _check(axes)
    made: list[Choice] = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        request = Request.of(
            model,
            chosen.pop(INPUT, ()),
            batch_size=chosen.pop(BATCH, None),
            num_classes=num_classes,
            dtype=dtype,
            arguments=chosen,
        )
        named = dict(zip(axes, values, strict=True))
        shown = tuple(_shown(name, named[name]) for name in varied)
        made.append(Choice(shown, tuple(_number(named[name]) for name in varied), request))
    if not varied:  # what cannot be a value has been refused by now
        raise RequestError(
            "sweep: give several values of something, as in --input 128,160,192,224, "
            "--arg width_mult=0.5,1.0 or --batch-size 1,8,32"
        )
    return Sweep(varied, tuple(made))


def _axes(
    inputs: Any, arguments: Mapping[str, Any], batch_sizes: Any
) -> Iterator[tuple[str, list[Any]]]:
    """What is chosen and its values, without those of which there are none.

    Raises:
        RequestError: arguments have no names, or one of them has an empty list.
    """
    if not isinstance(arguments, Mapping):
        raise RequestError('arguments: give values by name, as in {"width_mult": [0.5, 1.0]}')
    if sizes := _values(inputs):
        yield INPUT, sizes
    for name, value in arguments.items():
        values = _values(value) if type(value) is list else [_plain(value)]
        if not values:
            raise RequestError(f"{name}: the list of its values is empty")
        yield name, values
    if batches := _values(batch_sizes):
        yield BATCH, batches


def _values(given: Any) -> list[Any]:
    """Values of a sequence, an array or a range; one that is none of these stands for itself."""
    several = not isinstance(given, str) and isinstance(given, Iterable)
    return [_plain(one) for one in (given if several else [given])]


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's; other values as they are."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


def _check(axes: Mapping[str, Sequence[Any]]) -> None:
    """Check the values of each choice, and how many combinations there are.

    Raises:
        RequestError: a value is given twice, or there are too many.
    """
    count = 1
    for name, values in axes.items():
        written = [_shown(name, value) for value in values]
        meant = [_PLAIN.sub("", one) for one in written] if name == INPUT else written
        again = next((i for i, one in enumerate(meant) if one in meant[:i]), None)
        if again is not None:
            alike = dict.fromkeys((written[meant.index(meant[again])], written[again]))
            raise RequestError(
                f"{name}: the value {' or '.join(alike)} is given twice; give it once"
            )
        count *= len(values)
    if count > _MOST:
        raise RequestError(f"sweep: {count:,} combinations of values; {_MOST} are the most")


def _shown(name: str, value: Any) -> str:
    """A value as it is typed: of the input in its own spelling, of an argument in Python's."""
    if name == INPUT and isinstance(value, (list, tuple)):
        whole = value and all(type(n) is int for n in value)
        value = "x".join(map(str, value)) if whole else ", ".join(map(str, items(value)))
    return printable(str(value), 60)


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


# ------------------------------------------------------------------------------- what is found


def costs(trace: Trace) -> Costs:
    """The costs of a trace."""
    found = summary.report(trace, review=False)
    totals, outer = found.totals, found.layers[0]
    row = SweepRow(
        values=(),
        inputs=found.inputs,
        params=totals.params,
        macs=totals.macs,
        element_ops=totals.element_ops,
        activation_bytes=totals.activation_bytes,
        peak_activation_bytes=totals.peak_activation_bytes,
        output=outer.output_shapes[0] if outer.output_shapes else (),
        field=None if outer.field_unknown else totals.field,
        unknown=sum(op.count for op in found.unknown),
    )
    return Costs(row, found.source, found.device, found.notes)


def report(sweep: Sweep, found: Sequence[Costs | CnnscopeError]) -> SweepReport:
    """All rows, and how costs grow where one number varies.

    Args:
        sweep: what was asked for.
        found: for each choice.

    Raises:
        CnnscopeError: of the first choice, if the model runs with none.
    """
    ran = [one for one in found if isinstance(one, Costs)]
    if not ran:
        raise next(one for one in found if isinstance(one, CnnscopeError))
    rows = tuple(
        replace(one.row, values=choice.values)
        if isinstance(one, Costs)
        else SweepRow(choice.values, failed=str(one))
        for choice, one in zip(sweep.choices, found, strict=True)
    )
    by, rows = _placed(sweep, rows)
    return SweepReport(
        source=ran[0].source,
        device=ran[0].device,
        varied=sweep.varied,
        rows=rows,
        by=by,
        growth=tuple(_growth(sweep, rows, _COUNTED)),
        notes=tuple(_once([note for one in ran for note in dict.fromkeys(one.notes)])),
    )


def _once(notes: Sequence[str]) -> Iterator[str]:
    """Notes without those that differ in nothing but numbers, sizes most often."""
    found: dict[str, list[str]] = {}
    for note in notes:
        found.setdefault(_NUMBER.sub("0", note), []).append(note)
    for first, *others in found.values():
        more = len({first, *others}) - 1
        yield f"{first} (and {more} more alike)" if more else first


def trained(
    sweep: Sweep,
    report: SweepReport,
    step: Step,
    stepped: Callable[[Request, Step], StepTrace],
    progress: Callable[[int, int], None],
) -> SweepReport:
    """The report with the memory of a training step in every row.

    Args:
        sweep: what was asked for.
        report: without it.
        step: which.
        stepped: traces one.
        progress: called with how many are done, and how many there are.

    Raises:
        CnnscopeError: of the first row, if the model can be trained with none.
    """
    from cnnscope.analysis.step import peak  # not for a sweep without training

    rows: list[SweepRow] = []
    failed: list[CnnscopeError] = []
    for number, (choice, row) in enumerate(zip(sweep.choices, report.rows, strict=True)):
        progress(number, len(report.rows))
        if row.failed:
            rows.append(row)
            continue
        try:
            nbytes = peak(stepped(choice.request, step)).nbytes
            rows.append(replace(row, training_bytes=nbytes))
        except CnnscopeError as error:
            failed.append(error)
            rows.append(SweepRow(row.values, failed=str(error)))
    if all(row.failed for row in rows):
        raise failed[0]
    made = tuple(rows)
    return replace(report, rows=made, step=step, growth=tuple(_growth(sweep, made, _COUNTED)))


def timed(sweep: Sweep, report: SweepReport, timing: BenchReport) -> SweepReport:
    """The report with times: a run for each row that did not fail, in order."""
    ran = [index for index, row in enumerate(report.rows) if not row.failed]
    names = [called(report.varied, report.rows[index].values) for index in ran]
    runs = tuple(
        replace(run, samples_ns=(), label=name)
        for run, name in zip(timing.runs, names, strict=False)  # fewer, if it was interrupted
    )
    medians = {i: run.statistics.median_ns for i, run in zip(ran, runs, strict=False)}
    growth = _growth(sweep, report.rows, ("median_ns",), lambda index, _: medians.get(index))
    return replace(
        report,
        growth=(*report.growth, *growth),
        timing=replace(timing, runs=runs, comparisons=()),
    )


def _counted(rows: Sequence[SweepRow]) -> Callable[[int, Quantity], float | None]:
    return lambda index, quantity: getattr(rows[index], quantity)


def _growth(
    sweep: Sweep,
    rows: Sequence[SweepRow],
    quantities: Sequence[Quantity],
    value: Callable[[int, Quantity], float | None] | None = None,
) -> Iterator[Growth]:
    """Powers of the one number that varies; none where it is no number, or several vary."""
    value = value or _counted(rows)
    ran = [index for index, one in enumerate(rows) if not one.failed and not one.unknown]
    by, numbers = _variable(sweep, rows, ran)
    order = sorted(zip(numbers, ran, strict=True)) if by else []
    if len({x for x, _ in order}) < max(len(order), 2):
        return
    for quantity in quantities:
        ys = [y for _, index in order if (y := value(index, quantity)) is not None]
        xs = [x for x, _ in order]
        if len(ys) == len(xs) and (found := law(quantity, by, xs, ys)):
            yield found


def law(quantity: Quantity, by: str, xs: Sequence[float], ys: Sequence[float]) -> Growth | None:
    """How a cost grows.

    Args:
        quantity: which cost.
        by: name of x.
        xs: increasing.
        ys: the cost at each x.

    Returns:
        None for fewer than three points, or if one of them is not positive.
    """
    found = powers.power(xs, ys)
    if found is None:
        return None
    line = powers.line(xs, ys)
    return Growth(
        quantity,
        by,
        found.power,
        found.deviation,
        found.first,
        found.last,
        offset=line and line.offset,
        slope=line and line.slope,
        line_deviation=line and line.deviation,
        exponent=line and line.exponent,
        lowest=found.lowest,
        highest=found.highest,
        ratio=max(ys) / min(ys),
    )


def _variable(
    sweep: Sweep, rows: Sequence[SweepRow], ran: Sequence[int]
) -> tuple[str, list[float]]:
    """Name of the number that varies, and its values in the rows; "" where it is none."""
    return _first(sweep, rows, ran) if len(sweep.varied) == 1 and len(ran) > 1 else ("", [])


def _placed(sweep: Sweep, rows: tuple[SweepRow, ...]) -> tuple[str, tuple[SweepRow, ...]]:
    """Name of the first number that varies, and rows with its values; "" where it is none."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        if not row.failed:
            groups.setdefault(row.values[1:], []).append(index)
    found = [_first(sweep, rows, ran) for ran in groups.values()]
    names = {name for name, _ in found}
    if len(names) != 1 or "" in names:
        return "", rows
    at = {
        index: number
        for ran, (_, numbers) in zip(groups.values(), found, strict=True)
        for index, number in zip(ran, numbers, strict=True)
    }
    return names.pop(), tuple(replace(row, at=at.get(index)) for index, row in enumerate(rows))


def _first(sweep: Sweep, rows: Sequence[SweepRow], ran: Sequence[int]) -> tuple[str, list[float]]:
    """The same of the first of what varies, in rows that have all else in common."""
    if sweep.varied[0] == INPUT:
        return _size([tuple(spec.shape for spec in rows[index].inputs) for index in ran])
    numbers = [sweep.choices[index].numbers[0] for index in ran]
    known = [one for one in numbers if one is not None and one > 0]
    return (sweep.varied[0], known) if len(known) == len(ran) else ("", [])


def _size(inputs: Sequence[tuple[Shape, ...]]) -> tuple[str, list[float]]:
    """The one size that varies, or the sides of a shape in proportion; "" for anything else.

    Several tensors are described by the first that varies, if all that vary do so in proportion:
    an image and its mask, tokens and their mask.
    """
    ranks = {tuple(map(len, one)) for one in inputs}
    if len(ranks) != 1:
        return "", []
    varying = [
        (tensor, axis, sizes)
        for tensor, shapes in enumerate(zip(*inputs, strict=True))
        for axis, sizes in enumerate(zip(*shapes, strict=True))
        if len(set(sizes)) > 1
    ]
    if not varying or not all(_in_proportion(varying[0][2], sizes) for *_, sizes in varying):
        return "", []
    first, _, sizes = varying[0]
    axes = [axis for tensor, axis, _ in varying if tensor == first]
    return _named(axes, ranks.pop()[first]), [float(size) for size in sizes]


def _in_proportion(some: Shape, others: Shape) -> bool:
    return all(a * others[0] == b * some[0] for a, b in zip(some, others, strict=True))


def _named(axes: Sequence[int], rank: int) -> str:
    """What these axes of a tensor are called; "" for several that are not all of space."""
    if len(axes) > 1:
        return "side" if axes[0] >= _IMAGE else ""
    return _AXES[rank][axes[0]] if rank in _AXES else ""
