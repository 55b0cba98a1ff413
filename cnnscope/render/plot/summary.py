"""The chart of `cnnscope summary`: what each layer costs, along the depth of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnnscope.errors import RequestError
from cnnscope.records.summary import LayerRow, ModelReport
from cnnscope.render import facts, units
from cnnscope.render.plot import depth
from cnnscope.render.plot.chart import Axis, Chart, Panel, Series, Unit

_COSTS: tuple[tuple[str, Unit, Callable[[LayerRow], int]], ...] = (
    ("MACs", "count", lambda row: row.macs),
    ("parameters", "count", lambda row: row.params),
    ("activations", "bytes", lambda row: row.activation_bytes),
)


def chart(report: ModelReport) -> Chart:
    """A panel for each cost, a bar for each layer.

    Raises:
        RequestError: no layer costs anything.
    """
    rows = depth.layers(report.layers)
    panels = tuple(
        Panel(
            depth.axis(rows),
            Axis(label, unit, zero=True),
            (Series("", tuple((n, float(cost(row))) for n, row in enumerate(rows, 1)), "bars"),),
            bands=depth.bands(rows),
        )
        for label, unit, cost in _COSTS
        if any(map(cost, rows))
    )
    if not panels:
        raise RequestError(
            f"{report.source.name}: no layer costs anything, so that there is nothing to plot"
        )
    return Chart(report.source.name, facts.header(report), panels, tuple(_below(report, rows)))


def _below(report: ModelReport, rows: list[LayerRow]) -> Iterator[tuple[str, str]]:
    for label, unit, cost in _COSTS:
        whole = sum(map(cost, rows))
        if whole:
            dearest = max(rows, key=cost)
            yield (
                label,
                f"{(units.nbytes if unit == 'bytes' else units.si)(whole)} in all layers, most in "
                f"{units.called(dearest)} ({units.percent(cost(dearest), whole)})",
            )
    if report.failed is not None:
        yield "!", f"the forward raised in {facts.place(report.failed)}: this is what ran before"
    for op in report.unknown:
        yield "!", f"no formula for {units.plural(op.count, op.name)}: its cost is missing"
