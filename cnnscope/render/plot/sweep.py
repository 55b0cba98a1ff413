"""The chart of `cnnscope sweep`: each cost against what was chosen, and the power it grows by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from typing import get_args

from cnnscope.records.sweep import Growth, Quantity, SweepReport, SweepRow, called
from cnnscope.render import sweep
from cnnscope.render.plot.chart import Axis, Chart, Kind, Panel, Point, Series, Unit

_UNITS: dict[Quantity, Unit] = {
    "params": "count",
    "macs": "count",
    "peak_activation_bytes": "bytes",
    "training_bytes": "bytes",
    "median_ns": "time",
}
_NEAR = 2**0.5
_CURVE = 16  # parts of a fitted line, which bends on axes of ratios
_Costs = Mapping[int, float]  # by the number of a row


def chart(report: SweepReport) -> Chart:
    """A panel for each cost that changes: on axes of ratios where a number was chosen."""
    costs = {quantity: _costs(report, quantity) for quantity in get_args(Quantity)}
    varying = {q: found for q, found in costs.items() if len(set(found.values())) > 1}
    panels = [_panel(report, q, found) for q, found in (varying or costs).items() if found]
    same = [sweep.NAMES[q] for q, found in costs.items() if found and q not in varying]
    below = [("not drawn", f"{', '.join(same)}: the same for all")] if same and varying else []
    kept = [one for one in sweep.page(report).below if one[0] in ("!", "machine")]
    name, header = report.source.name, sweep.header(report)
    return Chart(name, header, tuple(panels), (*below, *kept), columns=2)


def _costs(report: SweepReport, quantity: Quantity) -> _Costs:
    """The cost of each row that has it."""
    ran = [number for number, row in enumerate(report.rows) if not row.failed]
    if quantity == "median_ns":
        runs = report.timing.runs if report.timing else ()
        return {n: run.statistics.median_ns for n, run in zip(ran, runs, strict=False)}
    values = {n: getattr(report.rows[n], quantity) for n in ran}
    return {n: float(value) for n, value in values.items() if value is not None}


def _panel(report: SweepReport, quantity: Quantity, costs: _Costs) -> Panel:
    ratios = bool(report.by) and all(value > 0 for value in costs.values())
    ends = _ends(costs) if ratios else None
    return Panel(
        _x(report, ratios=ratios),
        Axis(sweep.NAMES[quantity], _UNITS[quantity], log=ratios, zero=not ratios, ends=ends),
        tuple(_series(report, quantity, costs)),
    )


def _ends(costs: _Costs) -> tuple[float, float] | None:
    """A factor of two around costs that are nearer than that, so that they look near; else None."""
    low, high = min(costs.values()), max(costs.values())
    middle = (low * high) ** 0.5
    return (middle / _NEAR, middle * _NEAR) if high / low < _NEAR else None


def _x(report: SweepReport, *, ratios: bool) -> Axis:
    """What was chosen: numbers, or names in the order in which they were given."""
    if not report.by:
        return Axis(report.varied[0], names=_names(report))
    at = tuple(row.at for row in report.rows if row.at is not None)
    return Axis(report.by, log=ratios, at=at)


def _names(report: SweepReport) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.values[0] for row in report.rows))


def _series(report: SweepReport, quantity: Quantity, costs: _Costs) -> Iterator[Series]:
    """One for each combination of what else was chosen, and a fitted power beside a single one."""
    groups: dict[tuple[str, ...], list[Point]] = {}
    for number, cost in costs.items():
        row = report.rows[number]
        groups.setdefault(row.values[1:], []).append((_place(report, row), cost))
    kind = _kind(report, several=len(groups) > 1)
    alike: dict[tuple[Point, ...], list[tuple[int, str]]] = {}  # they would cover each other
    for number, (others, points) in enumerate(groups.items()):
        name = called(report.varied[1:], others)
        alike.setdefault(tuple(sorted(points)), []).append((number, name))
    for along, ((number, name), *more) in alike.items():
        last = f" and {more[0][1]}" if len(more) == 1 else f", and {len(more)} more alike"
        yield Series(f"{name}{last if more else ''}", along, kind, look=number)
    growth = next((one for one in report.growth if one.quantity == quantity), None)
    if growth is not None:
        yield _fitted(growth, sorted(next(iter(groups.values()))))


def _kind(report: SweepReport, *, several: bool) -> Kind:
    """Bars beside each other would cover each other, and points of one series need no line."""
    if report.by:
        return "line" if several else "points"
    return "points" if several else "bars"


def _place(report: SweepReport, row: SweepRow) -> float:
    return row.at or 0.0 if report.by else float(_names(report).index(row.values[0]))


def _fitted(growth: Growth, points: Sequence[Point]) -> Series:
    """The law that the report names; of none, a line through the points.

    The factor of a power is the one of least squares of logarithms for that power.
    """
    xs = [points[0][0] * (points[-1][0] / points[0][0]) ** (n / _CURVE) for n in range(_CURVE + 1)]
    law = sweep.form(growth)
    fit = points
    if law == "line":
        n = growth.exponent or 1
        fit = [(x, (growth.offset or 0.0) + (growth.slope or 0.0) * x**n) for x in xs]
    elif law in ("power", "nearly", "rough"):
        factor = exp(sum(log(y) - growth.power * log(x) for x, y in points) / len(points))
        fit = [(x, factor * x**growth.power) for x in xs]
    return Series(sweep.sentence(growth), tuple(fit), "line", faint=True)
