"""The summary as a table for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.text import Text

from cnnscope.records import ModelReport
from cnnscope.render import facts, page, units
from cnnscope.render.columns import Column
from cnnscope.render.view import Line, View

_GAP = 2
_BAR = 6
# Where a terminal is too narrow for all columns, the bars go first, and then these.
_DROPPED_FIRST = (
    "activation",
    "element-ops",
    "input",
    "features",
    "share",
    "field",
    "output",
    "operation",
)
_DEAR = 0.05  # a row of at least so much of the total stands out


def summary(
    report: ModelReport,
    view: View,
    columns: Sequence[Column],
    *,
    width: int | None = None,
    ascii_only: bool = False,
) -> Text:
    """The header, the table, the totals and the findings.

    Args:
        report: what to show.
        view: which rows of it.
        columns: which columns.
        width: of the terminal; None for as wide as it needs to be (a file or a pipe).
        ascii_only: for a terminal that cannot show the bars.
    """
    text = Text(no_wrap=True, overflow="ignore")
    page.heading(text, report.source.name, facts.header(report), width)
    text.append("\n")
    table, dropped = _table(report, view, columns, width, ascii_only=ascii_only)
    text.append_text(table)
    text.append("\n")
    page.sentences(text, facts.totals(report), width)
    page.sentences(text, [("!", finding) for finding in facts.findings(report)], width)
    left_out = facts.omitted(view)
    if dropped:
        left_out = "; ".join(filter(None, [f"too narrow for {', '.join(dropped)}", left_out]))
    if left_out:
        text.append("\n".join(page.wrap(left_out, width)), "dim")
        text.append("\n")
    return page.plain(text) if ascii_only else text


def _table(
    report: ModelReport,
    view: View,
    columns: Sequence[Column],
    width: int | None,
    *,
    ascii_only: bool,
) -> tuple[Text, list[str]]:
    """The table, and the titles of the columns that there was no room for."""
    cells = [
        [page.cut(column.cell(line, report.totals), page.LONGEST_CELL) for column in columns]
        for line in view.lines
    ]
    widths = [
        max([len(column.title), *(len(row[i]) for row in cells)])
        for i, column in enumerate(columns)
    ]
    kept, with_bar = _fit(columns, widths, width)
    text = Text()
    for i in kept:
        text.append(_cell(columns[i].title, widths[i], columns[i]), "bold")
        text.append(" " * (_GAP + (_BAR + 1 if columns[i].key == "share" and with_bar else 0)))
    text.rstrip()
    text.append("\n")
    for line, row in zip(view.lines, cells, strict=True):
        text.append_text(
            _row(report, line, row, columns, widths, kept, bar=with_bar, ascii_only=ascii_only)
        )
        text.append("\n")
    return text, [column.title for i, column in enumerate(columns) if i not in kept]


def _row(
    report: ModelReport,
    line: Line,
    cells: list[str],
    columns: Sequence[Column],
    widths: list[int],
    kept: list[int],
    *,
    bar: bool,
    ascii_only: bool,
) -> Text:
    total = report.totals.macs
    dear = line.row.leaf and total and line.macs / total >= _DEAR
    text = Text()
    for i in kept:
        style = "bold" if dear and columns[i].key in ("macs", "share") else _style(columns[i], line)
        text.append(_cell(cells[i], widths[i], columns[i]), style)
        if columns[i].key == "share" and bar:
            drawn = units.bar(line.macs, total, _BAR, ascii_only=ascii_only)
            text.append(f" {drawn:<{_BAR}}", "cyan" if line.row.leaf else "blue")
        text.append(" " * _GAP)
    text.rstrip()
    return text


def _fit(columns: Sequence[Column], widths: list[int], width: int | None) -> tuple[list[int], bool]:
    """Which columns are shown and whether with bars; `widths` shrink to what is left."""
    keys = [column.key for column in columns]
    kept = list(range(len(columns)))
    bar = "share" in keys
    if width is None:
        return kept, bar

    def excess() -> int:
        needed = sum(widths[i] + _GAP for i in kept) - _GAP
        return needed + (_BAR + 1 if bar else 0) - width

    def shrink(key: str, least: int) -> None:
        if key in keys and keys.index(key) in kept and excess() > 0:
            i = keys.index(key)
            widths[i] = max(min(widths[i], least), widths[i] - excess())

    shrink("operation", 20)
    bar = bar and excess() <= 0
    shrink("layer", 28)
    shrink("operation", 14)
    for key in _DROPPED_FIRST:
        if excess() > 0 and key in keys:
            kept.remove(keys.index(key))
            shrink(keys[0], 12)
    while excess() > 0 and len(kept) > 1:
        kept.pop()
    shrink(keys[0], 1)
    return kept, bar


def _cell(value: str, width: int, column: Column) -> str:
    value = _clip(value, width)
    return value.rjust(width) if column.number else value.ljust(width)


def _clip(value: str, width: int | None) -> str:
    """Cut a cell to its width; how often a block repeats (` x 12`) is kept."""
    if width is None or len(value) <= width:
        return value
    times = re.search(r" x \d+$", value)
    tail = times[0] if times and len(times[0]) + 4 < width else ""
    return value[: max(width - 1 - len(tail), 0)] + "…" + tail


def _style(column: Column, line: Line) -> str:
    if column.key in ("layer", "path"):
        return "" if line.row.leaf else "bold"
    return "dim" if column.key == "output" else ""
