"""The report of `cnnscope sweep`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from cnnscope.records.bench import BenchRun
from cnnscope.records.summary import AxisField
from cnnscope.records.sweep import Growth, SweepReport, SweepRow
from cnnscope.render import bench, facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, Heading, Page, Table

_BAR = 12
_NUMBER = re.compile(r"[0-9]+")
# How far powers between neighbours may lie apart: two digits behind the point are written.
_STEADY, _ROUGH = 0.01, 0.25
_LEVEL = 0.1  # a power of noise, where powers are apart
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
        Heading("", left=True, drop=4, bar=True),
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
    if not axes or any(axis.size is None or not axis.input_size for axis in axes):
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
    yield from (("!", problem) for problem in _problems(report.rows))
    if report.timing is not None:
        yield from (("!", note) for run in report.timing.runs for note in _warnings(run, report))
        yield "machine", bench.machine(report.timing.environment, report.timing.runs[0])
    yield from (("!", note) for note in report.notes)


def _problems(rows: Sequence[SweepRow]) -> Iterator[str]:
    """Why choices fail or lack a cost; once where only numbers differ."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        missing = units.plural(row.unknown, "operation")
        lacks = f"no formula for {missing}, whose cost is missing" if row.unknown else ""
        if problem := row.failed or lacks:
            alike = _NUMBER.sub("0", problem)
            found.setdefault(alike, []).append((", ".join(row.values), problem))
    for (name, problem), *others in found.values():
        yield f"{name}{f' and {len(others)} more alike' if others else ''}: {problem}"


def _warnings(run: BenchRun, report: SweepReport) -> Iterator[str]:
    return bench.warnings(run, report.timing, {}) if report.timing else iter(())


def form(growth: Growth) -> Literal["same", "power", "line", "nearly", "rough", "none"]:
    """The law that the costs follow, as far as it holds between all neighbours."""
    if growth.ratio == 1:
        return "same"
    apart, flat = growth.highest - growth.lowest, abs(growth.power) < _STEADY
    if growth.exponent is not None and (flat or f"{growth.lowest:.2f}" != f"{growth.highest:.2f}"):
        return "line"
    if apart <= _STEADY:
        return "nearly" if flat else "power"
    if apart > _ROUGH:
        return "none"
    return "nearly" if abs(growth.power) < _LEVEL else "rough"


def sentence(growth: Growth) -> str:
    """As side^2.00; the same for all; 85.4 MiB + 20.6 MiB x batch size."""
    by = growth.by.replace(" ", "_")
    low, high = f"{growth.lowest:.2f}", f"{growth.highest:.2f}"
    match form(growth):
        case "same":
            return "the same for all"
        case "power":
            return f"as {by}^{growth.power:.2f}"
        case "line":
            return _line(growth, by)
        case "nearly":
            return f"nearly the same ({units.share(growth.ratio - 1)} apart)"
        case "rough":
            return f"about as {by}^{growth.power:.2f} ({low} to {high} between neighbours)"
    ends = f"{by}^{low} to {by}^{high} between neighbours"
    if {growth.first, growth.last} == {growth.lowest, growth.highest}:
        ends = (
            f"{by}^{growth.first:.2f} between the two smallest, {by}^{growth.last:.2f} between the "
            "two largest"
        )
    return f"as no one power of {by}: {ends}"


def _line(growth: Growth, by: str) -> str:
    """57.004 M + 4.097 k x num_classes, or x side^2."""
    slope, offset = growth.slope or 0.0, growth.offset or 0.0
    sign = "+" if slope > 0 else "-"
    of = by if growth.exponent == 1 else f"{by}^{growth.exponent}"
    return f"{_amount(growth, offset)} {sign} {_amount(growth, abs(slope))} x {of}"


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
