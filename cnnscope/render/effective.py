"""The report of `cnnscope rf --effective`: as text, Markdown, CSV and JSON."""

from __future__ import annotations

import io

from cnnscope.records import EffectiveField, EffectiveReport
from cnnscope.render import data, facts, units
from cnnscope.render.escaping import CsvWriter
from cnnscope.render.page import Heading, Page, Table

_COLUMNS = (
    Heading("layer", left=True, least=12),
    Heading("unit", drop=2),
    Heading("theoretical"),
    Heading("in input"),
    Heading("effective"),
    Heading("share"),
    Heading("box", drop=1),
    Heading("", left=True),
)


def page(report: EffectiveReport) -> Page:
    """The effective field beside the theoretical one, layer by layer."""
    table = Table(_COLUMNS, tuple(map(_cells, report.layers)))
    return Page(report.source.name, facts.header(report), (table,), tuple(_sentences(report)))


def _cells(layer: EffectiveField) -> tuple[str, ...]:
    path = layer.path or "the model"
    path = f"{path} #{layer.call}" if layer.call > 1 else path
    head = (path, ",".join(map(str, layer.unit)), units.field_size(layer.field))
    if layer.reason:
        return (*head, "", "", "", "", layer.reason)
    extents = [b - a + 1 for a, b in layer.clipped]
    area = 1
    for extent in extents:
        area *= extent
    return (
        *head,
        units.same(list(map(str, extents))),
        f"{layer.size:g}",
        units.percent(layer.pixels, area),
        "x".join(map(units.span_of, layer.box)),
        "",
    )


def _sentences(report: EffectiveReport) -> list[tuple[str, str]]:
    size = {1: "number", 2: "square root", 3: "cube root"}.get(len(report.layers[0].field), "root")
    of = " of the number" if size != "number" else ""
    lines = [
        (
            "effective",
            f"{size}{of} of pixels whose gradient exceeds {100 * report.threshold:.2f} % of the "
            "largest (Luo et al. 2016, section 3); box: their extent; share: of the field within "
            "the input",
        ),
        (
            "measured",
            f"mean absolute gradient of the unit's channel sum over {report.samples} standard "
            f"normal inputs, seed {report.seed}, weights as the constructor initialises them",
        ),
    ]
    if len(report.layers) < report.total:
        lines.append(
            ("chosen", f"{len(report.layers)} of {units.plural(report.total, 'layer')}, each with "
             "another field (name a layer to measure it)")
        )  # fmt: skip
    return lines


def to_csv(report: EffectiveReport) -> str:
    """One line per layer and axis, raw numbers."""
    out = io.StringIO()
    writer = CsvWriter(out)
    writer.writerow(
        ("path", "call", "axis", "unit", "field", "first", "last", "effective_first",
         "effective_last", "pixels", "effective_size", "reason")
    )  # fmt: skip
    for layer in report.layers:
        if layer.reason:
            writer.writerow((layer.path, layer.call, *[""] * 9, layer.reason))
            continue
        for axis, field in enumerate(layer.field):
            ends = (*layer.clipped[axis], *layer.box[axis], layer.pixels, layer.size)
            head = (layer.path, layer.call, axis, layer.unit[axis], field.local_size)
            writer.writerow((*head, *ends, ""))
    return out.getvalue()


def to_json(report: EffectiveReport) -> str:
    """The whole report."""
    return data.to_json(report)
