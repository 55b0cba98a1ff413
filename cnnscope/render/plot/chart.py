"""A chart: panels with series of points, axes and lines to compare with; plain data.

The file of a report in this folder makes a `Chart` of it, which knows nothing of pixels.
`terminal.py` draws it with characters, `files.py` with matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Literal, NamedTuple

Unit = Literal["number", "whole", "count", "bytes", "time"]
Kind = Literal["points", "line", "steps", "bars", "area"]
Point = tuple[float, float]


class Axis(NamedTuple):
    """What lies along one side of a panel.

    Attributes:
        label: name of the quantity.
        unit: how numbers are written: plain, whole numbers, with SI prefixes, bytes, nanoseconds.
        log: whether distances are ratios; all values are positive then.
        zero: whether the axis begins at 0.
        names: of the places 0, 1, 2 ..., where these are no numbers.
        at: values that are marked, () for round ones.
        ends: the smallest and largest value shown, None for all of them.
    """

    label: str
    unit: Unit = "number"
    log: bool = False
    zero: bool = False
    names: tuple[str, ...] = ()
    at: tuple[float, ...] = ()
    ends: tuple[float, float] | None = None


class Series(NamedTuple):
    """Points that belong together.

    Attributes:
        name: in the legend; "" for none.
        points: in the order of a line.
        kind: separate points; a line through them; a line that is level up to the
            next point; a bar for each; the area below a line, on top of the areas before it.
        labels: a name for each point, "" for none; () for no names.
        first: whether its points are named before those of other series, and drawn above them.
        faint: whether it is drawn thin and without symbols: a fit, a ceiling.
        look: number of its colour, symbol and hatch; None for the next one.
    """

    name: str
    points: tuple[Point, ...]
    kind: Kind = "points"
    labels: tuple[str, ...] = ()
    first: bool = False
    faint: bool = False
    look: int | None = None


class Level(NamedTuple):
    """A line across a panel at a value of its y axis."""

    value: float
    label: str


class Band(NamedTuple):
    """A part of the x axis that has a name, both ends included."""

    first: float
    last: float
    name: str


class Panel(NamedTuple):
    """One diagram."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    bands: tuple[Band, ...] = ()
    title: str = ""

    def points(self) -> Iterator[Point]:
        """Every point of every series."""
        for one in self.series:
            yield from one.points


class Chart(NamedTuple):
    """Diagrams below each other, or beside each other where there is room.

    Attributes:
        name: the heading.
        header: what it is about, beside the heading.
        panels: at least one.
        below: titled sentences; a title of "!" is a warning.
        columns: how many panels stand beside each other at most.
    """

    name: str
    header: str
    panels: tuple[Panel, ...]
    below: tuple[tuple[str, str], ...] = ()
    columns: int = 1

    @property
    def shared(self) -> bool:
        """True if all panels stand on one x axis, which the last one alone has to show."""
        first = self.panels[0]
        return self.columns == 1 and all(
            (p.x, p.bands) == (first.x, first.bands) for p in self.panels
        )


def looks(panel: Panel) -> Iterator[tuple[Series, int | None]]:
    """Each series with the number of its colour, symbol and hatch; faint ones have none."""
    numbers = count()
    for one in panel.series:
        if one.faint:
            yield one, None
        else:
            yield one, next(numbers) if one.look is None else one.look


def stacked(series: tuple[Series, ...]) -> list[tuple[Series, list[float]]]:
    """Each area with the heights of its upper edge, all areas before it below it."""
    tops: list[float] = []
    made = []
    for one in series:
        ys = [y for _, y in one.points]
        tops = [a + b for a, b in zip(tops, ys, strict=True)] if tops else ys
        made.append((one, tops))
    return made
