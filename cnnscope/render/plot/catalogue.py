"""The chart of `cnnscope list`: models by two of their figures, and the front of the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records.catalogue import MORE_IS_BETTER, Listed, ListReport
from cnnscope.render import units
from cnnscope.render.plot.chart import Axis, Chart, Panel, Point, Series, Unit

_WIDE = 20.0  # figures this far apart are drawn by their ratio
_LABELS: dict[str, tuple[str, Unit]] = {
    "params": ("parameters", "count"),
    "macs": ("MACs", "count"),
    "activations": ("peak activations", "bytes"),
    "field": ("receptive field (pixels)", "count"),
    "layers": ("weight layers", "count"),
    "acc": ("top-1 accuracy (%)", "number"),
    "input": ("side of the input (pixels)", "number"),
}


class _Dot(NamedTuple):
    point: Point
    name: str
    model: Listed


def chart(report: ListReport) -> Chart:
    """A point for each model that has both figures; those that no other beats are on a line.

    Raises:
        RequestError: no two figures were asked for, or no model has both.
    """
    if report.pareto is None:
        raise RequestError("a chart of models needs two figures, as in plot('macs:acc')")
    dots = [_dot(one) for one in report.models if one.figures is not None]
    drawn = [dot for dot in dots if all(map(isfinite, dot.point))]
    x, y = report.pareto
    if not drawn:
        raise RequestError(f"no model of the list has both {x} and {y}: there is nothing to plot")
    axes = [
        _axis(key, [dot.point[side] for dot in drawn]) for side, key in enumerate(report.pareto)
    ]
    panel = Panel(axes[0], axes[1], _series(drawn, worth=x in MORE_IS_BETTER))
    header = f"{units.plural(len(drawn), 'model')} of {len(report.models):,}"
    front = next((one for one in panel.series if one.first), None)
    below = tuple(_below(report, front, len(drawn)))
    return Chart(f"{axes[1].label} against {axes[0].label}", header, (panel,), below)


def _dot(one: Listed) -> _Dot:
    name = one.name if one.source == "torchvision" else f"{one.source}:{one.name}"
    return _Dot(one.figures or (0.0, 0.0), name, one)


def _axis(key: str, values: Sequence[float]) -> Axis:
    label, unit = _LABELS[key]
    low, high = min(values), max(values)
    return Axis(label, unit, log=low > 0 and high / low >= _WIDE)


def _series(dots: Sequence[_Dot], *, worth: bool) -> tuple[Series, ...]:
    """The front, and the others by their library.

    Between two models of the front the one holds that costs no more than what is allowed, or that
    is worth no less than what is demanded: from the right, where x is a worth.
    """
    best = sorted((dot for dot in dots if dot.model.best), key=lambda dot: dot.point, reverse=worth)
    made = [
        Series(
            "Pareto front",
            tuple(dot.point for dot in best),
            "steps",
            tuple(dot.name for dot in best),
            first=True,
        )
    ]
    for source in dict.fromkeys(dot.model.source for dot in dots):
        rest = [dot for dot in dots if dot.model.source == source and not dot.model.best]
        if rest:
            points = tuple(dot.point for dot in rest)
            made.append(Series(source, points, labels=tuple(dot.name for dot in rest)))
    return tuple(one for one in made if one.points)


def _below(report: ListReport, front: Series | None, drawn: int) -> Iterator[tuple[str, str]]:
    """Names of the front, of which some may have no room, and what has no place."""
    if front is not None:
        yield front.name, ", ".join(front.labels)
    missing = len(report.models) - drawn
    if missing and report.pareto is not None:
        x, y = report.pareto
        yield "not drawn", f"{units.plural(missing, 'model')} without a number for {x} or {y}"
