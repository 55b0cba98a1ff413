"""The reports of `cnnscope explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cnnscope.records.explain import (
    ExplainReport,
    Explanation,
    ModelExplanation,
    ResolutionChange,
    Step,
)
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Shape
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import Heading, Page, Table, dear

_STEPS = (Heading("number", left=True), Heading("how", left=True, least=30, wrap=True))
_KINDS = (
    Heading("layers", left=True),
    *map(Heading, ("count", "parameters", "share", "MACs", "share")),
)
_RESOLUTION = (
    Heading("from", left=True),
    Heading("to", left=True),
    Heading("at", left=True, least=20, wrap=True),
)


def page(report: ExplainReport | ModelExplanation) -> Page:
    """Either report as a page."""
    return _layers(report) if isinstance(report, ExplainReport) else _model(report)


# ---------------------------------------------------------------------------------- layers


def _layers(report: ExplainReport) -> Page:
    return Page(report.source.name, facts.header(report), tuple(map(_table, report.layers)))


def _table(explained: Explanation) -> Table:
    rows: list[tuple[str, str]] = []
    styles: list[str] = []
    for step in explained.steps:
        for number, line in enumerate(_lines(step)):
            rows.append((step.topic if number == 0 else "", line))
            styles.append("dim" if number else "")
    return Table(_STEPS, tuple(rows), tuple(styles), _caption(explained.layer))


def _caption(row: LayerRow) -> str:
    """layer2.0.conv1: Conv2d 3x3/2, p1, 64x56x56 -> 128x28x28."""
    path = _named(row)
    if row.features is not None and row.geometry is None and row.leaf:
        return f"{path}: {units.operation(row)}"
    given = ", ".join(map(units.per_sample, row.input_shapes)) if row.kind == "module" else ""
    if len(row.input_shapes) > 3:
        given = f"{units.per_sample(row.input_shapes[0])} and {len(row.input_shapes) - 1} more"
    arrow = f"{given} -> " if given else ""
    return f"{path}: {units.operation(row)}, {arrow}{units.output(row)}"


def _named(row: LayerRow) -> str:
    """Its path, or its class where it is the whole model; the second run of a module says so."""
    return units.called(row, row.path or row.name or row.operation)


def _lines(step: Step) -> Iterable[str]:
    """The arithmetic first, below it the formula in words and what else is to be said."""
    if step.arithmetic:
        yield _equation(step)
        if step.formula:
            yield step.formula
        if step.note:
            yield step.note
    else:
        yield ", ".join(text for text in (step.formula, step.note) if text)


def _equation(step: Step) -> str:
    """64*3*7*7 = 9,408; a number alone says all."""
    if step.arithmetic == str(step.value):
        return units.arithmetic(step.arithmetic)
    value = units.arithmetic(str(step.value))
    readable = f" ({units.nbytes(int(step.value or 0))})" if step.topic == "memory" else ""
    return f"{units.arithmetic(step.arithmetic)} = {value}{readable}"


# ----------------------------------------------------------------------------------- model


def _model(report: ModelExplanation) -> Page:
    t = report.totals
    kinds = tuple(
        (
            kind.operation,
            str(kind.layers),
            units.integer(kind.params),
            units.percent(kind.params, t.params),
            units.si_short(kind.macs) if kind.macs else "",
            units.percent(kind.macs, t.macs),
        )
        for kind in report.kinds
    )
    if t.unused_params:
        unused = (units.integer(t.unused_params), units.percent(t.unused_params, t.params))
        kinds = (*kinds, ("never used", "", *unused, "", ""))
    tables = [Table(_KINDS, kinds, caption="what it is made of")]
    tables.append(_dearest("where most parameters are", report.params, "params", t.params))
    tables.append(_dearest("where most MACs are", report.macs, "macs", t.macs))
    if report.resolution:
        rows = tuple(map(_change, report.resolution))
        tables.append(Table(_RESOLUTION, rows, caption="where the resolution changes"))
    tables = [table for table in tables if table.rows]
    return Page(report.source.name, facts.header(report), tuple(tables), tuple(_sentences(report)))


def _dearest(caption: str, explained: Sequence[Explanation], name: str, whole: int) -> Table:
    headings = (
        Heading("layer", left=True, least=12),
        Heading("how", left=True, least=24, wrap=True),
        Heading("share"),
    )
    rows = tuple(
        (
            _named(e.layer),
            _equation(e.steps[-1]) if e.steps else units.integer(getattr(e.layer, name)),
            units.percent(getattr(e.layer, name), whole),
        )
        for e in explained
    )
    styles = tuple(("", "", dear(getattr(e.layer, name), whole)) for e in explained)
    return Table(headings, rows, styles, caption=caption)


def _change(change: ResolutionChange) -> tuple[str, str, str]:
    """224x224, 112x112, conv1 (Conv2d 7x7/2, p3)."""
    first = change.layers[0]
    others = [_named(row) for row in change.layers[1:]]
    shown = ", ".join(others[:2])
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    text = f"{_named(first)} ({units.operation(first)})" + (f", {shown}{more}" if others else "")
    return _size(change.before), _size(change.after), text


def _size(sizes: Shape) -> str:
    return units.shape(sizes) if sizes else "one"


def _sentences(report: ModelExplanation) -> list[tuple[str, str]]:
    t = report.totals
    lines = [
        ("depth", facts.weight_layers(t)),
        ("parameters", units.integer(t.params)),
        ("MACs", facts.macs(t)),
    ]
    lines += [("" if i else "smallest", text) for i, text in enumerate(report.sizes)]
    return [*lines, *(("!", note) for note in report.notes)]


# ----------------------------------------------------------------------------------- data


_CSV = ("path", "call", "topic", "formula", "arithmetic", "value", "note")
_CSV_MODEL = ("topic", "name", "layers", "params", "macs", "before", "after")


def sheet(report: ExplainReport | ModelExplanation) -> Sheet:
    """One line per step; of a model, one per kind, layer and change of resolution."""
    if isinstance(report, ModelExplanation):
        return _CSV_MODEL, _model_rows(report)
    return _CSV, ((step, e.layer) for e in report.layers for step in e.steps)


def _model_rows(report: ModelExplanation) -> Iterator[Row]:
    for kind in report.kinds:
        yield ({"topic": "kind", "name": kind.operation}, kind)
    for topic, explained in (("most parameters", report.params), ("most MACs", report.macs)):
        for e in explained:
            yield ({"topic": topic, "name": e.layer.path, "layers": 1}, e.layer)
    for change in report.resolution:
        names = " ".join(row.path for row in change.layers)
        yield ({"topic": "resolution", "name": names, "layers": len(change.layers)}, change)
    for found in (report.smallest, *report.along):
        if found is not None:
            sizes = {"before": " and ".join(found.axes), "after": found.side or ""}
            yield ({"topic": "smallest input", "name": found.layer, "layers": "", **sizes},)
