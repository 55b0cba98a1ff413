"""The summary as HTML for a notebook: one table that brings its style along, everything escaped."""

from collections.abc import Sequence

from cnnscope.records import ModelReport
from cnnscope.render import facts
from cnnscope.render.columns import Column
from cnnscope.render.escaping import html as escape
from cnnscope.render.page import LONGEST_CELL, cut, indented
from cnnscope.render.view import Line, View

_STYLE = (
    ".cnnscope{font-size:.9em}"
    ".cnnscope table{border-collapse:collapse;margin:.5em 0}"
    ".cnnscope th,.cnnscope td{padding:.1em .7em;border:0;text-align:right;white-space:nowrap}"
    ".cnnscope .l{text-align:left}"
    ".cnnscope th{border-bottom:1px solid currentColor}"
)


def summary(report: ModelReport, view: View, columns: Sequence[Column]) -> str:
    """A heading, the table, the totals and the findings, in one `<div>`."""
    heading = f"<b>{escape(report.source.name)}</b> &nbsp; {escape(facts.header(report))}"
    titles = "".join(f"<th{_side(column)}>{escape(column.title)}</th>" for column in columns)
    rows = "\n".join(_row(report, line, columns) for line in view.lines)
    below = [f"<b>{escape(title)}</b> {escape(value)}" for title, value in facts.totals(report)]
    below += [f"! {escape(finding)}" for finding in facts.findings(report)]
    below += [f"<i>{escape(text)}</i>" for text in (facts.omitted(view),) if text]
    return (
        f'<div class="cnnscope"><style>{_STYLE}</style>{heading}\n'
        f"<table><thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n"
        f"{'<br>'.join(below)}</div>\n"
    )


def _row(report: ModelReport, line: Line, columns: Sequence[Column]) -> str:
    cells = "".join(
        f"<td{_side(column)}{_bar(report, line, column)}>"
        f"{indented(escape(cut(column.cell(line, report.totals), LONGEST_CELL)))}</td>"
        for column in columns
    )
    return f"<tr>{cells}</tr>"


def _side(column: Column) -> str:
    return "" if column.number else ' class="l"'


def _bar(report: ModelReport, line: Line, column: Column) -> str:
    """A row's share of all MACs, drawn behind the number."""
    if column.key != "share" or not line.macs or not report.totals.macs:
        return ""
    part = f"{100 * line.macs / report.totals.macs:.1f}%"
    return f' style="background:linear-gradient(90deg,#7f9fbf66 {part},transparent {part})"'
