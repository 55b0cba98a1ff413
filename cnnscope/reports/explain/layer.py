"""Every number of a layer as a formula with its numbers put in.

Arithmetic is text that is true: it gives what the analyses say, by their own formulas (the named
factors of the operation table, the floor formula of `analysis/shapes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from cnnscope.analysis import layers
from cnnscope.records.explain import ExplainReport, Explanation, Step
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace
from cnnscope.reports.explain import blocks, costs, fields, memory, origin, output, parameters
from cnnscope.reports.explain.view import View
from cnnscope.reports.explain.writing import product_step


def explain_layers(trace: Trace, pattern: str) -> ExplainReport:
    """Every formula of the layers that a path or a glob names.

    A glob means layers and not what only moves data or the blocks around them, unless it names
    nothing else.

    Raises:
        RequestError: there is no such layer.
    """
    view = View(trace)
    return ExplainReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=tuple(
            Explanation(view.rows[i], tuple(steps(view, i))) for i in _chosen(view.rows, pattern)
        ),
    )


def explained(trace: Trace) -> tuple[tuple[Step, ...], ...]:
    """The steps of every row of the summary."""
    view = View(trace)
    return tuple(tuple(steps(view, index)) for index in range(len(view.rows)))


def _chosen(rows: Sequence[LayerRow], pattern: str) -> list[int]:
    exact = [i for i, row in enumerate(rows) if row.path == pattern and row.depth]
    if exact:
        return exact
    if any(c in pattern for c in "*?["):
        found = [i for i, row in enumerate(rows) if row.depth and fnmatchcase(row.path, pattern)]
        single = [i for i in found if rows[i].leaf and not rows[i].minor]
        if found:
            return single or found
        if rows[0].leaf and fnmatchcase("", pattern):  # the model is one layer of torch.nn
            return [0]
    return [rows.index(layers.find(rows[1:], pattern))]


def steps(view: View, index: int) -> Iterable[Step]:
    """All steps of a row, in the order of the questions that they answer."""
    row = view.rows[index]
    if row.kind == "parameter":
        yield product_step("parameters", row.name, row.output_shapes[0])
        return
    part = view.part(row)
    if row.leaf:
        for topic in (output, origin, parameters, costs):
            yield from topic.steps(view, row, part)
    else:
        yield from blocks.steps(view, index)
    yield from fields.steps(view, row, part)
    yield from memory.steps(view, row)
