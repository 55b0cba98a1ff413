"""The reports of `cnnscope rf`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cnnscope.records.rf import FieldReport, UnitReport
from cnnscope.records.summary import AxisField, LayerRow
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import Heading, Page, Table

_GROWTH = (
    Heading("layer", left=True, least=12),
    Heading("output", left=True),
    Heading("field"),
    Heading("min", drop=2),
    Heading("stride"),
    Heading("padding", drop=3),
    Heading("centre", drop=4),
    Heading("in input", drop=1),
    Heading("", left=True),
)
_UNIT = (
    Heading("axis", left=True),
    *map(Heading, ("unit", "sees", "in the input", "centre", "input")),
)

_WRAPS = (
    "positions wrap around (circular padding, torch.roll): a unit at the border also sees the "
    "opposite side of the input, as the column `in input` says"
)
_NONE = (
    "an axis along which there is no single number: its units see all of the input, or all on one "
    "side of them, or what they see is not evenly spaced"
)


def page(report: FieldReport | UnitReport) -> Page:
    """Either report as a page."""
    return _growth(report) if isinstance(report, FieldReport) else _unit(report)


def _growth(report: FieldReport) -> Page:
    table = Table(_GROWTH, tuple(map(_cells, report.layers)))
    return Page(report.source.name, facts.header(report), (table,), tuple(_sentences(report)))


def _cells(row: LayerRow) -> tuple[str, ...]:
    path = units.called(row)
    if row.field is None:
        return (path, units.output(row), "?", *[""] * 5, "unknown")
    return (
        path,
        units.output(row),
        units.field_size(row.field),
        _each(row.field, "min_size"),
        _each(row.field, "stride"),
        _each(row.field, "padding"),
        _centre(row.field),
        units.same([units.span(a.clipped) for a in row.field]),
        "unproductive" if row.unproductive else "",
    )


def _each(axes: Sequence[AxisField], name: str) -> str:
    """A number for each axis."""
    values = [getattr(axis, name) for axis in axes]
    return units.along_axes(["" if v is None else units.decimal(v) for v in values])


def _centre(axes: Sequence[AxisField]) -> str:
    """Centre of unit 0, in pixels."""
    known = [(a.local_size, a.padding) for a in axes]
    return units.along_axes(
        ["" if s is None or p is None else units.decimal((s - 1) / 2 - p) for s, p in known]
    )


def none_means(cells: Iterable[str]) -> list[tuple[str, str]]:
    """Explanation of `none`, where a cell has it."""
    return [(units.NONE, _NONE)] if any(units.NONE in cell.split(" x ") for cell in cells) else []


def _sentences(report: FieldReport) -> list[tuple[str, str]]:
    exceeds, covers = report.exceeds_input_at, report.covers_input_at
    outgrown = f"the input, from {exceeds} on" if exceeds else "no field is larger than the input"
    covered = f"all of the input, from {covers} on" if covers else "no unit sees all of the input"
    lines = [("outgrows", outgrown), ("covers", covered)]
    if report.unproductive:
        count = units.plural(len(report.unproductive), "layer")
        lines.append(("unproductive", f"{count}, from {report.unproductive[0]} on"))
    if report.unknown:
        count = units.plural(len(report.unknown), "layer")
        lines.append(("unknown", f"{count}, from {report.unknown[0]} on"))
    lines += none_means(cell for row in report.layers for cell in _cells(row))
    axes = [a for row in report.layers for a in row.field or ()]
    if any(a.explicit for a in axes):
        lines.append(("note", "fields without a stride are true of this input size only"))
    if any(a.size is not None and a.stride and a.clipped[1] > a.size for a in axes):
        lines.append(("note", _WRAPS))
    return lines + [("note", note) for note in report.notes]


def _unit(report: UnitReport) -> Page:
    names = units.axis_names(len(report.axes))
    cells = tuple(
        (
            name,
            str(axis.unit),
            units.interval(axis.unclipped),
            units.interval(axis.clipped),
            units.decimal(axis.centre),
            str(axis.input_size),
        )
        for name, axis in zip(names, report.axes, strict=True)
    )
    field = units.field(report.layer.field or ())
    below = [("layer", f"{report.layer.path} ({units.operation(report.layer)})"), ("field", field)]
    whole = [n for n, axis in zip(names, report.layer.field or (), strict=False)
             if axis.size is None and axis.local_size is not None]  # fmt: skip
    if whole and len(whole) < len(names):
        text = f"along {' and '.join(whole)} it depends on every position"
        below.append(("context", text))
    elif report.global_context:
        below.append(("context", "it also depends on a function of the whole image"))
    below += [("note", note) for note in report.notes]
    return Page(report.source.name, facts.header(report), (Table(_UNIT, cells),), tuple(below))


_CSV_UNIT = ("path", "axis", "unit", "first", "last", "clipped_first", "clipped_last")
_PER_AXIS = tuple(f for f in AxisField.__struct_fields__ if f not in ("sizes", "clipped"))
_CSV = (
    *("path", "call", "axis"), *_PER_AXIS,
    *("clipped_min", "clipped_max", "unknown", "unproductive"),
)  # fmt: skip


def sheet(report: FieldReport | UnitReport) -> Sheet:
    """One line per layer and axis, raw numbers; nothing for `all` and for what is not known."""
    if isinstance(report, UnitReport):
        ends = ((i, a.unit, *a.unclipped, *a.clipped) for i, a in enumerate(report.axes))
        names = _CSV_UNIT[1:]
        return _CSV_UNIT, ((dict(zip(names, own, strict=True)), report.layer) for own in ends)
    return _CSV, (row for layer in report.layers for row in _raw(layer))


def _raw(row: LayerRow) -> Iterator[Row]:
    for axis, field in enumerate(row.field or (AxisField(None, None, None),)):
        low, high = field.clipped
        computed: dict[str, object] = {"axis": axis, "clipped_min": low, "clipped_max": high}
        yield ({**computed, "unknown": row.field_unknown}, field, row)
