"""Ends, places and marks of axes: the same for every drawing of a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, takewhile
from math import ceil, floor, log10

from cnnscope.render.plot.chart import Axis, Panel, Unit, stacked

_MARGIN = 0.05  # of the range, before the first value and after the last one
_SI = ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, ""))
_BINARY = ((2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B"))
_TIME = ((1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns"))
_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "number": ((1.0, ""),),
    "whole": ((1.0, ""),),
    "count": _SI,
    "bytes": _BINARY,
    "time": _TIME,
}
_SHORT = 8.0  # ends nearer than that have round numbers between them on an axis of ratios, too
_ENOUGH = 4  # marks of an axis of ratios
_NEAR = 1e-9  # what is lost to rounding
Extent = tuple[float, float]
Tick = tuple[float, str]


def extents(panel: Panel) -> tuple[Extent, Extent]:
    """The smallest and largest value of both axes, with a margin."""
    xs = [x for x, _ in panel.points()] + [e for b in panel.bands for e in (b.first, b.last)]
    areas = tuple(one for one in panel.series if one.kind == "area")
    ys = [y for _, tops in stacked(areas) for y in tops]
    ys += [y for one in panel.series if one.kind != "area" for _, y in one.points]
    ys += [level.value for level in panel.levels]
    return _extent(panel.x, xs), _extent(panel.y, ys)


def _extent(axis: Axis, values: Sequence[float]) -> Extent:
    if axis.ends is not None:
        return axis.ends
    if axis.names:
        return -0.5, len(axis.names) - 0.5
    low, high = min(values, default=0.0), max(values, default=1.0)
    if axis.log:
        ratio = (high / low) ** _MARGIN if high > low else 2.0
        return low / ratio, high * ratio
    low = min(low, 0.0) if axis.zero else low
    margin = _MARGIN * (high - low) if high > low else max(abs(high), 1.0) / 2
    return (low if axis.zero and not low else low - margin), high + margin


def place(axis: Axis, extent: Extent, value: float) -> float:
    """Where a value lies between the ends: 0 at the first, 1 at the last."""
    low, high = extent
    if axis.log:
        low, high, value = log10(low), log10(high), log10(value)
    return (value - low) / (high - low)


def ticks(axis: Axis, extent: Extent, most: int) -> list[Tick]:
    """Marks of an axis with their texts, in rising order.

    Args:
        axis: which.
        extent: its ends.
        most: marks, about; those that `axis` asks for are all given.
    """
    if axis.names:
        return [(float(at), name) for at, name in enumerate(axis.names)]
    low, high = extent
    if axis.at:
        return [(v, written(v, axis.unit)) for v in sorted(set(axis.at)) if low <= v <= high]
    if axis.log and high / low > _SHORT and (values := _log_ticks(extent, axis.unit, most)):
        return [(value, written(value, axis.unit)) for value in values]
    return _linear_ticks(extent, axis.unit, most)


def _linear_ticks(extent: Extent, unit: Unit, most: int) -> list[Tick]:
    """Multiples of 1, 2 or 5 times a power of ten, in the unit of the larger end: two or more."""
    low, high = extent
    scale, suffix = _scale(max(abs(low), abs(high)), unit)
    low, high = low / scale, high / scale
    whole = unit == "whole" or suffix == " B"
    found: list[Tick] = []
    for parts in range(max(most, 1), 3 * max(most, 1) + 1):
        step = _step((high - low) / parts)
        step = max(step, 1.0) if whole else step
        digits = max(0, -floor(log10(step) + _NEAR))
        first, last = ceil(low / step - _NEAR), floor(high / step + _NEAR)
        values = [number * step for number in range(first, last + 1)]
        found = [(v * scale, f"{v:,.{digits}f}{suffix}" if v else "0") for v in values]
        if len(found) > 1:
            break
    return found


def _step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 ... that is not smaller."""
    power = 10.0 ** floor(log10(least))
    return next((n * power for n in (1, 2, 5) if n * power >= least * (1 - _NEAR)), 10 * power)


def _log_ticks(extent: Extent, unit: Unit, most: int) -> list[float]:
    """The roundest that are enough, or as many as there is room for; none if that is one."""
    fitting = [values for values in map(list, _grids(extent, unit)) if len(values) <= most]
    enough = [values for values in fitting if len(values) >= _ENOUGH]
    found = enough[-1] if enough else fitting[0] if fitting else []
    return found if len(found) >= 2 else []


def _grids(extent: Extent, unit: Unit) -> Iterator[Iterator[float]]:
    """Values between the ends, finer ones before coarser ones."""
    low, high = extent
    if unit == "bytes":
        for step in (1, 2, 5, 10, 20):
            yield (2.0**n for n in range(0, 61, step) if low <= 2.0**n <= high)
        return
    exponents = list(range(floor(log10(low)) - 1, ceil(log10(high)) + 1))
    for digits in (range(1, 10), (1, 2, 5), (1,)):
        values = (n * 10.0**e for e in exponents for n in digits)
        yield (value for value in values if low <= value <= high)
    for step in takewhile(lambda n: n < len(exponents), count(2)):
        yield (10.0**e for e in exponents if e % step == 0 and low <= 10.0**e <= high)


def _scale(value: float, unit: Unit) -> tuple[float, str]:
    scales = _SCALES[unit]
    return next((one for one in scales if value >= one[0] * (1 - _NEAR)), scales[-1])


def written(value: float, unit: Unit) -> str:
    """A value of an axis: 1.5 G, 32 MiB, 20 ms, 1,024; no more digits than it has, four at most."""
    scale, suffix = _scale(abs(value), unit)
    number = value / scale
    return f"{number:,.0f}{suffix}" if abs(number) >= 1000 else f"{number:.4g}{suffix}"
