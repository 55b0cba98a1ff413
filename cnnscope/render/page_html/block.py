"""The data of the page as JSON: compact, with a version, read by `page/src/data.ts`.

What repeats (formulas, receptive fields, maps of units) stands once in a list and is named by its
place there. Keys that are left out have the value 0, "", false or nothing.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import msgspec

from cnnscope.records.explain import Step
from cnnscope.records.memory import MemoryReport
from cnnscope.records.page import MeasuredFields, PageContents, PageModel
from cnnscope.records.summary import AxisField, LayerRow, UnitMap
from cnnscope.render import facts, units
from cnnscope.render.page_html import differences
from cnnscope.render.page_html.listed import Listed
from cnnscope.render.page_html.network import network
from cnnscope.text import visible

PAGE_SCHEMA = 1
_DIGITS = string.digits + string.ascii_letters + "-_"
Json = dict[str, Any]


def block(contents: PageContents) -> bytes:
    """The data of the page.

    Args:
        contents: of one model, or of two that are compared.
    """
    data = {
        "schema_version": PAGE_SCHEMA,
        "cnnscope": contents.program,
        "command": visible(contents.command),
        "models": [_model(model) for model in contents.models],
    }
    if contents.graph is not None:
        data["graph"] = network(contents.graph)
    if contents.diff is not None:
        data["diff"] = differences.block(contents.diff, contents.models)
    return msgspec.json.encode(data)


def _model(model: PageModel) -> Json:
    summary, steps, fields, maps = model.summary, Listed(), Listed(), Listed()
    rows = []
    times = model.times or (0.0,) * len(summary.layers)
    lines = model.lines or ("",) * len(summary.layers)
    given = zip(summary.layers, model.steps, model.maps, times, lines, strict=True)
    for row, its_steps, its_maps, taken, line in given:
        shown = _row(row) | ({"time": round(taken)} if taken else {})
        shown |= {"line": visible(line)} if line else {}
        shown["steps"] = [steps.place(step, _step(step)) for step in its_steps]
        if row.field is not None:
            shown["field"] = fields.place(row.field, _field(row.field))
        if any(one is not None for one in its_maps):
            shown["maps"] = [-1 if m is None else maps.place(m, _map(m)) for m in its_maps]
        rows.append(shown)
    return {
        **_heading(model),
        "rows": rows,
        "steps": steps.items,
        "fields": fields.items,
        "maps": maps.items,
        "operations": [[one.name, one.row] for one in model.operations],
        "lives": [[one.nbytes, one.born, one.died, one.row] for one in model.lives],
        **({} if model.training is None else {"training": _training(model.training)}),
        **({} if model.effective is None else {"effective": _effective(model.effective)}),
    }


def _heading(model: PageModel) -> Json:
    """What is said of the whole model."""
    summary, totals = model.summary, model.summary.totals
    return {
        "name": visible(summary.source.name),
        "header": visible(facts.header(summary)),
        "versions": {k: visible(v) for k, v in summary.source.versions.items()},
        "inputs": [spec.shape for spec in summary.inputs],
        "totals": msgspec.to_builtins(totals) | {"field": _named_field(totals.field)},
        "findings": [
            {
                "severity": one.severity.value,
                "text": visible(one.sentence),
                "layers": [visible(path) for path in one.layers],
            }
            for one in summary.findings
        ],
        "notes": [visible(text) for text in facts.doubts(summary)],
        "failed": [
            (title, visible(text))
            for title, text in (facts.failure(summary.failed) if summary.failed else ())
        ],
    }


def _named_field(axes: Sequence[AxisField] | None) -> str:
    return units.field_size(axes) if axes else ""


_COSTS = (
    "params", "trainable_params", "buffers", "macs", "element_ops", "activation_bytes",
    "unknown_ops",
)  # fmt: skip
_FLAGS = ("leaf", "minor", "unproductive", "field_unknown")


def _row(row: LayerRow) -> Json:
    shown: Json = {
        "path": visible(row.path),
        "name": visible(row.name),
        "parent": row.parent,
        "kind": row.kind,
        "operation": visible(units.operation(row)),
    }
    if row.call > 1:
        shown["call"] = row.call
    if row.input_shapes:
        shown["inputs"] = row.input_shapes
    if row.output_shapes:
        shown["outputs"] = row.output_shapes
    shown |= {name: value for name in _COSTS if (value := getattr(row, name))}
    return shown | {name: True for name in _FLAGS if getattr(row, name)}


def _step(step: Step) -> list[str]:
    """Topic, arithmetic, value, formula, note."""
    value = "" if step.value is None else units.arithmetic(str(step.value))
    text = [
        visible(step.topic), units.arithmetic(visible(step.arithmetic)), value,
        visible(step.formula), visible(step.note),
    ]  # fmt: skip
    while text and not text[-1]:
        text.pop()
    return text


def _field(axes: tuple[AxisField, ...]) -> Json:
    """The receptive field as text, and the numbers of every axis."""
    return {
        "text": units.field(axes),
        "axes": [
            [
                a.size,
                a.local_size,
                a.min_size,
                a.stride,
                a.padding,
                *a.clipped,
                a.input_size,
                a.units,
            ]
            for a in axes
        ],
    }


def _map(one: UnitMap) -> Json:
    """Clipped intervals as runs, and the regular form if there is one."""
    found: Json = {"lo": _runs(one.lo), "hi": _runs(one.hi)}
    if one.first:
        found |= {"step": one.step, "first": one.first, "last": one.last}
    return found


def _runs(numbers: Sequence[int]) -> list[int]:
    """Numbers as their first, and then the difference and length of each run of equal steps."""
    found = list(numbers[:1])
    for step, same in groupby(b - a for a, b in pairwise(numbers)):
        found += [step, len(list(same))]
    return found


def _effective(found: MeasuredFields) -> Json:
    """Effective receptive fields; a cell of the heat is one of 64 characters."""
    return {
        "samples": found.samples,
        "threshold": found.threshold,
        "layers": [
            {
                "row": one.row,
                "unit": one.unit,
                "clipped": one.clipped,
                "pixels": one.pixels,
                "size": one.size,
                "box": one.box,
                "heat": ["".join(_DIGITS[value] for value in line) for line in one.heat],
            }
            for one in found.layers
        ],
    }


def _training(report: MemoryReport) -> Json:
    """Memory of a training step: of each kind over the operations, and who has it at the peak."""
    step = report.step
    return {
        "step": {} if step is None else msgspec.to_builtins(step),
        "peak": report.peak,
        "tensors": report.tensors,
        "reserved": report.reserved,
        "phases": [
            (name, len(list(same))) for name, same in groupby(e.phase for e in report.events)
        ],
        "events": [(visible(e.operation), visible(e.path)) for e in report.events],
        "kinds": [(k.kind, k.at_peak, k.most, _runs(k.timeline)) for k in report.kinds],
        "layers": [
            (visible(one.path), one.weights, one.gradients, one.state, one.saved, one.other)
            for one in report.layers
        ],
    }
