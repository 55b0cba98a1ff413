"""The reports of `cnnscope rf`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cnnscope.records.rf import FieldReport, UnitAxis, UnitReport
from cnnscope.records.summary import AxisField, LayerRow
from cnnscope.render import facts, units, view
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import DIFFERENT, Heading, Page, Table
from cnnscope.render.tree import DEFAULT, Options

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

_PER_UNIT = ("min_size", "stride", "padding")

_WRAPS = (
    "positions wrap around (circular padding, torch.roll): a unit at the border also sees the "
    "opposite side of the input, as the column `in input` says"
)
_NONE = (
    "an axis along which there is no single number: its units see all of the input, or all on one "
    "side of them, or what they see is not evenly spaced"
)


def page(report: FieldReport | UnitReport, options: Options = DEFAULT) -> Page:
    """Either report as a page; the options are those of a table of layers."""
    return _growth(report, options) if isinstance(report, FieldReport) else _unit(report)


def _growth(report: FieldReport, options: Options) -> Page:
    tree = Rows(_in_order(report), options)
    shown = tree.nested()
    deeper = [*(line.indent for line in shown.lines[1:]), 0]
    lines = [
        (line, "" if after > line.indent else tree.marked(line))
        for line, after in zip(shown.lines, deeper, strict=True)
    ]
    table = Table(
        _GROWTH,
        tuple(_cells(line, marked) for line, marked in lines),
        tuple(_style(line, marked) for line, marked in lines),
    )
    left_out = facts.shown(shown, "row")
    return Page(
        report.source.name,
        facts.header(report),
        (table,),
        tuple(_sentences(report)),
        omitted=f"shown: {left_out}" if left_out else "",
    )


def _in_order(report: FieldReport) -> list[LayerRow]:
    """Blocks and layers as they run, each with the place of its block in this list."""
    places: dict[int, int] = {-1: -1}
    rows: list[LayerRow] = []

    def place(block: int) -> int:
        if block not in places:
            outer = place(report.blocks[block].parent)
            places[block] = len(rows)
            rows.append(msgspec.structs.replace(report.blocks[block], parent=outer))
        return places[block]

    for row in report.layers:
        outer = place(row.parent) if report.blocks else -1
        rows.append(msgspec.structs.replace(row, parent=outer))
    return rows


class Rows(view.Rows):
    """The rows of the table: where blocks are closed, it says how many layers find nothing new."""

    def marked(self, line: view.Line) -> str:
        """What is remarkable about a line: an unknown field, layers that are unproductive."""
        row = line.last or line.row
        if row.field is None:
            return "unknown"
        if row.leaf:
            return "unproductive" if row.unproductive else ""
        count = sum(self._unproductive(index) for index in line.run)
        return f"{count} unproductive" if count else ""

    def _unproductive(self, index: int) -> int:
        inside = self.children.get(index, ())
        return self.rows[index].unproductive + sum(map(self._unproductive, inside))


def _style(line: view.Line, marked: str) -> tuple[str, ...]:
    """Layers that find nothing new, or of which nothing is known, stand out."""
    remarkable = DIFFERENT if marked and (line.row.leaf or marked == "unknown") else ""
    name = " ".join(filter(None, ["" if line.row.leaf else "bold", remarkable]))
    return (name, *[remarkable] * (len(_GROWTH) - 2), DIFFERENT)


def _cells(line: view.Line, marked: str) -> tuple[str, ...]:
    row = line.last or line.row
    name = "  " * line.indent + line.name
    if row.field is None:
        return (name, units.output(row), "?", *[""] * 5, marked)
    return (
        name,
        units.output(row),
        units.field_size(row.field),
        _each(row.field, "min_size"),
        _each(row.field, "stride"),
        _each(row.field, "padding"),
        _centre(row.field),
        units.same([units.span(a.clipped) for a in row.field]),
        marked,
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


def landmarks(report: FieldReport) -> list[tuple[str, str]]:
    """From which layers on the field is larger than the input, covers it, or is not known."""
    exceeds = report.exceeds_input_at
    outgrown = f"the input, from {exceeds} on" if exceeds else "no field is larger than the input"
    lines = [("outgrows", outgrown), ("covers", _covered(report))]
    if report.unproductive:
        count = units.plural(len(report.unproductive), "layer")
        lines.append(("unproductive", f"{count}, from {report.unproductive[0]} on"))
    if report.unknown:
        count = units.plural(len(report.unknown), "layer")
        lines.append(("unknown", f"{count}, from {report.unknown[0]} on"))
    return lines


def _sentences(report: FieldReport) -> list[tuple[str, str]]:
    lines = landmarks(report)
    each = (_each(row.field, name) for row in report.layers if row.field for name in _PER_UNIT)
    lines += none_means(each)
    axes = [a for row in report.layers for a in row.field or ()]
    if any(a.explicit for a in axes):
        lines.append(("note", "fields without a stride are true of this input size only"))
    if any(map(_wraps, axes)):
        lines.append(("note", _WRAPS))
    return lines + [("note", note) for note in report.notes]


def _covered(report: FieldReport) -> str:
    """Where units see all of the input: every one, those at the borders too, or some."""
    if report.covers_input_at:
        return f"all of the input, from {report.covers_input_at} on"
    rows = [row for row in report.layers if row.leaf and not row.minor and row.field]
    every, most = (
        [r for r in rows if all(a.clipped[i] >= a.input_size for a in r.field or ())]
        for i in (0, 1)
    )
    if every and len(rows) == 1:  # the model itself, which has no path
        return "all of the input"
    if every:
        return f"all of the input, at {units.called(every[0])}, and not in every layer after it"
    middle = [row for row in most if not any(map(_wraps, row.field or ()))]
    if middle:
        return f"all of the input in the middle, at {units.called(middle[0])} first"
    if most:
        where = units.called(most[0])
        return f"all of the input only at borders that wrap around, at {where} first"
    return "no unit sees all of it"


def _wraps(axis: AxisField) -> bool:
    """Return True if units at a border see more than any in the middle: the opposite side too."""
    return axis.size is not None and bool(axis.stride) and axis.clipped[1] > axis.size


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
    below = [
        ("layer", f"{units.called(report.layer)} ({units.operation(report.layer)})"),
        ("field", field),
    ]
    whole = list(itertools.compress(names, map(_whole, report.layer.field or (), report.axes)))
    if report.global_context:
        below.append(("context", "it also depends on a function of the whole image"))
    elif whole:
        below.append(("context", f"along {' and '.join(whole)} it depends on every position"))
    below += [("note", note) for note in report.notes]
    return Page(report.source.name, facts.header(report), (Table(_UNIT, cells),), tuple(below))


def _whole(field: AxisField, unit: UnitAxis) -> bool:
    """Return True if a unit depends on every position of an axis, beside a local field or alone."""
    everything = unit.clipped == (0, field.input_size - 1)
    return field.size is None and (field.local_size is not None or everything)


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
