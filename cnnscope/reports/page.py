"""From traces to the contents of the page of `cnnscope report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from cnnscope.analysis import layers, receptive_field
from cnnscope.analysis.graph import graph, graph_of_two
from cnnscope.records.index import CallKey
from cnnscope.records.memory import MemoryReport
from cnnscope.records.page import (
    Life,
    MeasuredField,
    MeasuredFields,
    PageContents,
    PageModel,
    Ran,
)
from cnnscope.records.summary import LayerRow, UnitMap
from cnnscope.records.trace import Trace
from cnnscope.reports.comparable import comparable
from cnnscope.reports.diff import diff
from cnnscope.reports.effective import Effective
from cnnscope.reports.explain import explained
from cnnscope.reports.summary import report
from cnnscope.text import operation

Times = Mapping[CallKey, float]
_PICTURE = 2  # axes of a picture
_CELLS = 48  # along each axis, at most


def contents(
    traces: Sequence[Trace],
    training: Sequence[MemoryReport] = (),
    times: Sequence[Times] = (),
    fields: Sequence[Effective] = (),
) -> PageContents:
    """Everything that the page shows.

    Args:
        traces: of one model, or of two that are compared.
        training: memory of a training step of each; left out, the page has none.
        times: nanoseconds that layers of each took, by path and call; left out, there are none.
        fields: effective receptive fields of each; left out, there are none.
    """
    steps: Sequence[MemoryReport | None] = training or [None] * len(traces)
    taken = times or [{}] * len(traces)
    measured = [*map(_measured, traces, fields)] if fields else [None] * len(traces)
    models = tuple(map(_model, traces, steps, taken, measured))
    rows = [model.summary.layers for model in models]
    if len(traces) == 1:
        return PageContents(models, graph(traces[0], rows[0]))
    (before, after), differences = traces, diff(*map(comparable, traces))
    both = graph_of_two((before, after), (rows[0], rows[1]), differences.rows)
    return PageContents(models, both, differences)


def _model(
    trace: Trace, training: MemoryReport | None, times: Times, measured: MeasuredFields | None
) -> PageModel:
    summary = report(trace)
    rows = _rows_of_operations(trace, summary.layers)
    return PageModel(
        summary=summary,
        steps=explained(trace),
        maps=tuple(_maps(trace, row) for row in summary.layers),
        operations=tuple(
            Ran(operation(record.name), row) for record, row in zip(trace.ops, rows, strict=True)
        ),
        lives=tuple(_lives(trace, rows)),
        training=training,
        times=_times(summary.layers, times) if times else (),
        lines=tuple(_line(trace, row) for row in summary.layers),
        effective=measured,
    )


def _measured(trace: Trace, found: Effective) -> MeasuredFields:
    """Effective receptive fields by the rows that they are of."""
    rows = layers.with_fields(trace)
    places = {(row.path, row.call): n for n, row in enumerate(rows) if row.kind == "module"}
    report = found.report
    return MeasuredFields(
        layers=tuple(
            MeasuredField(
                places[one.path, one.call], one.unit, one.clipped, one.pixels, one.size, one.box,
                _heat(heat, one.clipped),
            )
            for one, heat in zip(report.layers, found.maps, strict=True)
            if not one.reason and heat is not None
        ),
        samples=report.samples,
        seed=report.seed,
        threshold=report.threshold,
    )  # fmt: skip


def _heat(heat: Any, clipped: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Mean gradient in each cell of what a unit can see, 0 to 63 of the largest cell."""
    if len(clipped) > _PICTURE:
        return ()
    lines = heat if len(clipped) == _PICTURE else [heat]
    spans = [(0, 0), *clipped][-_PICTURE:]
    rows, columns = map(_cells, spans)
    means = [
        [fmean(v for line in lines[a:b] for v in line[c:d]) for c, d in columns] for a, b in rows
    ]
    most = max(map(max, means))
    return tuple(tuple(round(63 * v / most) if most else 0 for v in line) for line in means)


def _cells(span: tuple[int, int]) -> list[tuple[int, int]]:
    """First pixel of each cell, and the one behind its last."""
    first, last = span
    count = min(last + 1 - first, _CELLS)
    edges = [first + n * (last + 1 - first) // count for n in range(count + 1)]
    return list(pairwise(edges))


def _line(trace: Trace, row: LayerRow) -> str:
    """The source line that called the module of a row."""
    call = trace.index.calls.get((row.path, row.call)) if row.kind == "module" else None
    return "" if call is None else trace.calls[call].line


def _times(rows: Sequence[LayerRow], times: Times) -> tuple[float, ...]:
    """The time of every row: of its own call, and of those inside it."""
    found = [0.0] * len(rows)
    for index, row in enumerate(rows):
        taken = times.get((row.path, row.call), 0.0) if row.kind == "module" and row.leaf else 0.0
        at = index
        while taken and at >= 0:
            found[at] += taken
            at = rows[at].parent
    return tuple(found)


def _maps(trace: Trace, row: LayerRow) -> tuple[UnitMap | None, ...]:
    """Which pixels each unit of a row sees, for every axis; () where nothing is known of it."""
    field = receptive_field.fields(trace)[row.tensor] if row.tensor >= 0 else None
    return () if field is None or field.unknown else field.maps


def _rows_of_operations(trace: Trace, rows: Sequence[LayerRow]) -> tuple[int, ...]:
    """The row that shows each operation: its own, or else that of the call which ran it."""
    calls = {
        trace.index.calls[row.path, row.call]: index
        for index, row in enumerate(rows)
        if row.kind == "module" and (row.path, row.call) in trace.index.calls
    }
    own = {row.tensor: index for index, row in enumerate(rows) if row.kind == "operation"}
    return tuple(
        next((own[t] for t in record.outputs if t in own), _around(trace, record.call, calls))
        for record in trace.ops
    )


def _around(trace: Trace, call: int, calls: Mapping[int, int]) -> int:
    """The row of the innermost call that has one; -1 outside of all."""
    while call >= 0 and call not in calls:
        call = trace.calls[call].parent
    return calls.get(call, -1)


def _lives(trace: Trace, rows: Sequence[int]) -> list[Life]:
    """Memory that the forward itself takes, and its inputs, in the order of its birth."""
    inputs = {trace.tensors[tensor].storage for tensor in trace.inputs}
    return [
        Life(one.nbytes, one.born, one.died, rows[one.born] if one.born >= 0 else -1)
        for number, one in enumerate(trace.storages)
        if one.nbytes and (number in inputs or 0 <= one.born < len(rows))
    ]
