"""The chart of `cnnscope rf`: the receptive field along the depth of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from cnnscope.errors import RequestError
from cnnscope.records.rf import FieldReport
from cnnscope.records.summary import AxisField, LayerRow
from cnnscope.render import facts, field, units
from cnnscope.render.plot import depth
from cnnscope.render.plot.chart import Axis, Chart, Level, Panel, Series


def chart(report: FieldReport) -> Chart:
    """The field of each layer beside the size of the input.

    Raises:
        RequestError: no layer has a field, or each has all of the input.
    """
    rows = depth.layers(report.layers)
    axes = max((len(row.field or ()) for row in rows), default=0)
    series = tuple(one for one in _series(rows, axes) if one.points)
    if not series:
        why = "every layer sees all of the input" if axes else "no layer has a receptive field"
        raise RequestError(
            f"{report.source.name}: {why}, so that there is nothing to plot; the report without a "
            "chart says why"
        )
    over = "pixels" if axes > 1 else "positions"
    panel = Panel(
        depth.axis(rows),
        Axis(f"receptive field (input {over})", unit="whole", zero=True),
        series,
        tuple(_inputs(rows, axes)),
        depth.bands(rows),
    )
    notes = (("note", note) for note in report.notes)
    return Chart(
        report.source.name,
        facts.header(report),
        (panel,),
        (*_whole(rows), *field.landmarks(report), *notes),
    )


def _series(rows: Sequence[LayerRow], axes: int) -> Iterator[Series]:
    """A line for each axis, or one for all, and points for what sees less than a layer before.

    These are branches beside a longer one, and the shortest paths to a layer.
    """
    for names, along in _alike(rows, axes):
        fields = [(at, a.local_size) for at, a in along if a.local_size is not None]
        tops = list(accumulate((size for _, size in fields), max))
        end = f", {names}" if names else ""
        largest = zip((at for at, _ in fields), map(float, tops), strict=True)
        yield Series(f"receptive field{end}", tuple(largest), "line")
        less = [
            (at, float(size)) for (at, size), top in zip(fields, tops, strict=True) if size < top
        ]
        if less:
            yield Series(f"branch that sees less{end}", tuple(less))
        least = [(at, a.min_size) for at, a in along if a.min_size is not None]
        if least != fields:
            yield Series(f"shortest path{end}", tuple((at, float(size)) for at, size in least))


_Along = list[tuple[float, AxisField]]  # the number of a layer, and its field along one axis


def _alike(rows: Sequence[LayerRow], axes: int) -> list[tuple[str, _Along]]:
    """Axes with their names; those of one field at every layer are one, "" if all are."""
    every = [
        [(float(n), a) for n, row in enumerate(rows, 1) for a in (row.field or ())[i : i + 1]]
        for i in range(axes)
    ]
    found: dict[tuple[object, ...], tuple[list[str], _Along]] = {}
    for name, along in zip(units.axis_names(axes), every, strict=True):
        key = tuple((at, a.local_size, a.min_size) for at, a in along)
        found.setdefault(key, ([], along))[0].append(name)
    if len(found) == 1:
        return [("", every[0])]
    return [(" and ".join(names), along) for names, along in found.values()]


def _inputs(rows: Sequence[LayerRow], axes: int) -> Iterator[Level]:
    """The size of the input along each axis."""
    last = next(row.field for row in reversed(rows) if len(row.field or ()) == axes)
    sizes: dict[int, list[str]] = {}
    for name, a in zip(units.axis_names(axes), last or (), strict=True):
        sizes.setdefault(a.input_size, []).append(name)
    for size, names in sizes.items():
        if size:
            which = f", {' and '.join(names)}" if len(sizes) > 1 else ""
            yield Level(size, f"input {units.integer(size)}{which}")


def _whole(rows: Sequence[LayerRow]) -> Iterator[tuple[str, str]]:
    """Layers without a place in the chart: of an unknown field, or one as large as the input."""
    seeing = [row for row in rows if row.field and all(a.local_size is None for a in row.field)]
    if seeing:
        name, others = units.called(seeing[0]), len(seeing) - 1
        who = f"{name} and {others} more, which see" if others else f"{name}, which sees"
        yield "not drawn", f"{who} all of the input"
