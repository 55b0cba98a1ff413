"""The report of `cnnscope rf --effective`."""

from __future__ import annotations

from collections.abc import Iterator

from cnnscope.records.rf import EffectiveField, EffectiveReport
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
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
    path = units.called(layer)
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
        units.decimal(layer.size),
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


_CSV = (
    "path", "call", "axis", "unit", "field", "first", "last", "effective_first", "effective_last",
    "pixels", "effective_size", "reason",
)  # fmt: skip


def sheet(report: EffectiveReport) -> Sheet:
    """One line per layer and axis, raw numbers."""
    return _CSV, (row for layer in report.layers for row in _raw(layer))


def _raw(layer: EffectiveField) -> Iterator[Row]:
    head: dict[str, object] = {"path": layer.path, "call": layer.call}
    if layer.reason:
        yield ({**head, "reason": layer.reason},)
        return
    head |= {"pixels": layer.pixels, "effective_size": layer.size}
    for axis, field in enumerate(layer.field):
        ends = (*layer.clipped[axis], *layer.box[axis])
        own = (axis, layer.unit[axis], field.local_size, *ends)
        yield ({**head, **dict(zip(_CSV[2:9], own, strict=True))},)
