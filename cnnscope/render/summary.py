"""The report of `cnnscope summary`: the call tree, folded, or a list of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cnnscope.records.summary import AxisField, LayerRow, ModelReport
from cnnscope.render import facts, units
from cnnscope.render.columns import COLUMNS, DEFAULT, Column, known
from cnnscope.render.data import Row, Sheet
from cnnscope.render.escaping import one_line
from cnnscope.render.page import Bar, Cell, Heading, Page, Table, dear
from cnnscope.render.tree import DEFAULT as DEFAULT_ROWS
from cnnscope.render.tree import Options
from cnnscope.render.view import Line, view

# Where a terminal is too narrow for all columns, the bars go first, then the field, and then these.
_DROPPED = (
    "activation", "element-ops", "features", "flops", "trainable", "params-share", "input",
    "share", "output", "operation",
)  # fmt: skip


def page(
    report: ModelReport,
    options: Options = DEFAULT_ROWS,
    columns: Sequence[str] = DEFAULT,
    findings: bool | None = None,
) -> Page:
    """The chosen rows and columns, the totals and the findings.

    Args:
        report: of a model.
        options: which rows.
        columns: which columns, by key.
        findings: all of them, none, or (None) the first few.

    Raises:
        RequestError: an unknown column or sort key, or a filter that nothing matches.
    """
    shown, chosen = view(report, options), [COLUMNS[key] for key in known(columns)]
    keys = [key for column in chosen for key in (column.key, "bar")[: 1 + (column.key == "share")]]
    headings = tuple(heading for column in chosen for heading in _headings(column))
    table = Table(
        headings,
        tuple(tuple(_cells(report, line, chosen)) for line in shown.lines),
        tuple(tuple(_style(report, line, key) for key in keys) for line in shown.lines),
        yields=tuple(_yields(keys, shown.lines, chosen)),
    )
    said = [("!", said) for said in (*facts.findings(report, findings), *facts.doubts(report))]
    broken = facts.failure(report.failed) if report.failed else ()
    below = (*broken, *facts.totals(report), *said)
    left_out = facts.shown(shown, "row")
    omitted = f"shown: {left_out}" if left_out else ""
    if report.failed is None:
        return Page(report.source.name, facts.header(report), (table,), below, omitted=omitted)
    header = f"{facts.header(report)} · up to the break at {report.failed.path or 'the model'}"
    if not _anything_ran(report):
        return Page(report.source.name, header, (), tuple(broken))
    return Page(report.source.name, header, (table,), below, omitted=omitted)


def _anything_ran(report: ModelReport) -> bool:
    """Return True if the first layer or operation of a forward that raised came to its end.

    What an endless recursion ran is nothing to look at.
    """
    if report.failed is not None and report.failed.error == "RecursionError":
        return False
    rows = (row for row in report.layers if row.leaf and not row.minor)
    return any(row.output_shapes and row.kind != "parameter" for row in rows)


def _headings(column: Column) -> Iterator[Heading]:
    yield Heading(column.title, left=not column.number, keep="times")
    if column.key == "share":
        yield Heading("", left=True, bar=True)


def _cells(report: ModelReport, line: Line, columns: Sequence[Column]) -> Iterator[Cell]:
    for column in columns:
        yield one_line(column.cell(line, report.totals))
        if column.key == "share":
            yield Bar(line.macs, report.totals.macs)


def _style(report: ModelReport, line: Line, key: str) -> str:
    leaf, total = line.row.leaf, report.totals.macs
    if line.row.fails:
        return "bold red"
    if key in ("layer", "path"):
        return "" if leaf else "bold"
    if key in ("macs", "share", "flops"):
        return dear(line.macs, total) if leaf else ""
    if key in ("params", "params-share"):
        return dear(line.params, report.totals.params) if leaf else ""
    return {"output": "dim", "bar": "cyan" if leaf else "blue"}.get(key, "")


def _yields(
    keys: Sequence[str], lines: Sequence[Line], columns: Sequence[Column]
) -> Iterator[tuple[int, int]]:
    """Columns that yield where there is too little room, by key; see `Table.yields`.

    A kernel is never cut, and the features of a linear layer are where the field has room.
    """
    kernels = _widest(line for line in lines if line.row.geometry)
    whole = max(kernels, _widest(line for line in lines if line.row.features and line.row.leaf))
    steps = [("bar", 0), ("operation", whole), (columns[0].key, 20), ("operation", kernels)]
    steps += [("field", 0), (columns[0].key, 14), ("operation", 14)]
    for key in _DROPPED:
        steps += [(key, 0), (columns[0].key, 12)]
    yield from ((keys.index(key), width) for key, width in steps if key in keys)


def _widest(lines: Iterable[Line]) -> int:
    """Characters of the longest operation, 14 or more."""
    return max([14, *(len(units.operation(line.row)) for line in lines if not line.content)])


# ------------------------------------------------------------------------------------- CSV

_CSV = (
    "path", "depth", "kind", "operation", "call", "input_shapes", "output_shapes",
    "kernel_size", "stride", "padding", "dilation", "groups",
    "params", "trainable_params", "buffers", "macs", "flops", "element_ops",
    "activation_bytes", "field", "field_local", "field_min", "field_stride", "field_padding",
    "unknown_ops", "minor", "findings", "fails",
)  # fmt: skip
_FIELD = {
    "field": "size",
    "field_local": "local_size",
    "field_min": "min_size",
    "field_stride": "stride",
    "field_padding": "padding",
}


def sheet(report: ModelReport) -> Sheet:
    """One line per row of the report, blocks and what is inside them alike (see `depth`).

    `findings` are the kinds of those that name the row.
    """
    kinds = {
        row.path: "; ".join(f.kind.value for f in report.findings if row.path in f.layers)
        for row in report.layers
    }
    return _CSV, (_raw(row, kinds[row.path]) for row in report.layers)


def _raw(row: LayerRow, findings: str) -> Row:
    return ({"flops": 2 * row.macs, "findings": findings, **_field(row)}, row, row.geometry)


def _field(row: LayerRow) -> dict[str, str]:
    if row.field_unknown:
        return dict.fromkeys(_FIELD, "?")
    return {name: "x".join(_axes(row.field or (), name)) for name in _FIELD}


def _axes(axes: Sequence[AxisField], name: str) -> list[str]:
    """One number per axis; `all` for the whole, nothing where there is none."""
    values = [getattr(axis, _FIELD[name]) for axis in axes]
    none = "all" if name in ("field", "field_local") else ""
    if name != "field" and set(values) == {None}:
        return []
    return [none if v is None else str(v) for v in values]
