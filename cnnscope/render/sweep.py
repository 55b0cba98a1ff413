"""The report of `cnnscope sweep`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from cnnscope.records.bench import BenchRun
from cnnscope.records.summary import AxisField
from cnnscope.records.sweep import Growth, SweepReport, SweepRow
from cnnscope.render import bench, facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, Heading, Page, Table

_BAR = 12
_EXACT, _ROUGH = 0.01, 0.1  # deviations from a power law
NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "peak_activation_bytes": "peak activations",
    "training_bytes": "training memory",
    "median_ns": "time",
}


def page(report: SweepReport) -> Page:
    """A row for each choice, and how each cost grows."""
    return Page(
        report.source.name, header(report), (_table(report).filled(),), tuple(_below(report))
    )


def header(report: SweepReport) -> str:
    """The model without what varies."""
    parts = [facts.library(report.source, report.varied)]
    inputs = {row.inputs for row in report.rows if not row.failed}
    if len(inputs) == 1:
        parts.append(f"input {facts.counted([str(one) for one in inputs.pop()])}")
    return " · ".join([*parts, f"traced on {report.device}"])


def _table(report: SweepReport) -> Table:
    training = any(row.training_bytes is not None for row in report.rows)
    headings = (
        *(Heading(name, keep="start") for name in report.varied),
        Heading("params"),
        Heading("MACs"),
        Heading("", left=True, drop=4),
        Heading("peak act."),
        Heading("training" if training else ""),
        Heading("field", drop=2),
        Heading("of input", drop=3),
        Heading("time" if report.timing else ""),
        Heading("95 % interval" if report.timing else "", drop=1),
    )
    most = max(row.macs for row in report.rows)
    runs = iter(report.timing.runs if report.timing else ())
    rows = tuple(_cells(row, most, None if row.failed else next(runs, None)) for row in report.rows)
    styles = tuple(BAD if row.failed else "" for row in report.rows)
    return Table(headings, rows, styles)


def _cells(row: SweepRow, most: int, run: BenchRun | None) -> tuple[str, ...]:
    if row.failed:
        return (*row.values, "fails", *("",) * 8)
    return (
        *row.values,
        units.integer(row.params),
        units.si(row.macs),
        units.bar(row.macs, most, _BAR),
        units.nbytes(row.peak_activation_bytes),
        "" if row.training_bytes is None else units.nbytes(row.training_bytes),
        units.field_size(row.field) if row.field else "",
        _of_input(row.field or ()),
        *(("", "") if run is None else bench.median_cells(run.statistics)),
    )


def _of_input(axes: tuple[AxisField, ...]) -> str:
    """195 %: the field beside the input, along each axis."""
    if not axes or any(axis.local_size is None or not axis.input_size for axis in axes):
        return ""
    return units.same([f"{100 * (a.local_size or 0) / a.input_size:.0f} %" for a in axes])


def _below(report: SweepReport) -> Iterator[tuple[str, str]]:
    yield from ((NAMES[one.quantity], sentence(one)) for one in report.growth)
    if report.step is not None:
        yield (
            "training",
            f"peak of tensors in a step with {report.step.optimizer} ({report.step.form}), "
            f"loss {report.step.loss}; cnnscope memory says who owns it",
        )
    for row in report.rows:
        if row.failed:
            yield "!", f"{', '.join(row.values)}: {row.failed}"
        elif row.unknown:
            count = units.plural(row.unknown, "operation")
            yield "!", f"{', '.join(row.values)}: no formula for {count}, whose cost is missing"
    if report.timing is not None:
        yield from (("!", note) for run in report.timing.runs for note in _warnings(run, report))
        yield "machine", bench.machine(report.timing.environment, report.timing.runs[0])
    yield from (("!", note) for note in report.notes)


def _warnings(run: BenchRun, report: SweepReport) -> Iterator[str]:
    return bench.warnings(run, report.timing, {}) if report.timing else iter(())


def form(growth: Growth) -> Literal["same", "power", "line", "rough", "none"]:
    """Which law a cost follows: exactly a power, a straight line, about a power, or none."""
    if growth.deviation == 0 and growth.power == 0:
        return "same"
    if growth.deviation <= _EXACT:
        return "power"
    away = growth.line_deviation
    if growth.slope and growth.offset and away is not None and away <= _EXACT:
        return "line"
    return "rough" if growth.deviation <= _ROUGH else "none"


def sentence(growth: Growth) -> str:
    """Grow as side^2.00; stay the same; are 85.4 MiB + 20.6 MiB x batch size."""
    by = growth.by.replace(" ", "_")
    law = form(growth)
    if law == "same":
        return "the same for all"
    if law == "power":
        return f"as {by}^{growth.power:.2f}"
    if law == "line":
        slope, offset = growth.slope or 0.0, growth.offset or 0.0
        sign = "+" if slope > 0 else "-"
        return f"{_amount(growth, offset)} {sign} {_amount(growth, abs(slope))} x {by}"
    if law == "rough":
        return f"about as {by}^{growth.power:.2f} (to {units.share(growth.deviation)})"
    return (
        f"as no one power of {by}: {by}^{growth.first:.2f} between the two smallest, "
        f"{by}^{growth.last:.2f} between the two largest"
    )


def _amount(growth: Growth, value: float) -> str:
    """A number in the unit of a cost; a negative one with its sign."""
    size = round(abs(value))
    if growth.quantity == "median_ns":
        text = units.duration(size)
    else:
        counted = growth.quantity in ("params", "macs")
        text = units.si(size) if counted else units.nbytes(size)
    return f"-{text}" if value < 0 else text


# ----------------------------------------------------------------------------------- CSV

_CSV = (
    "params", "macs", "flops", "element_ops", "activation_bytes", "peak_activation_bytes",
    "training_bytes", "output", "inputs", "field", "failed",
)  # fmt: skip


def sheet(report: SweepReport) -> Sheet:
    """One line for each choice, raw numbers."""
    times = bench.STATISTICS if report.timing else ()
    return (*report.varied, *_CSV, *times), _lines(report)


def _lines(report: SweepReport) -> Iterator[Row]:
    runs = iter(report.timing.runs if report.timing else ())
    for row in report.rows:
        fields = ["all" if a.local_size is None else str(a.local_size) for a in row.field or ()]
        computed: dict[str, object] = {
            "output": units.shape(row.output),
            "inputs": ", ".join(map(str, row.inputs)),
            "field": "x".join(fields),
        }
        if not row.failed:
            computed["flops"] = 2 * row.macs
        run = None if row.failed else next(runs, None)
        measured = bench.statistics(run.statistics) if run is not None else ()
        chosen = dict(zip(report.varied, row.values, strict=True))
        blank = dict.fromkeys(_CSV[:-1], "") if row.failed else {}
        yield (chosen, blank, computed, row, *measured)
