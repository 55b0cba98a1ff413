"""The summary as GitHub-flavoured Markdown."""

from collections.abc import Sequence

from cnnscope.records import ModelReport
from cnnscope.render import facts
from cnnscope.render.columns import Column
from cnnscope.render.escaping import markdown as escape
from cnnscope.render.escaping import markdown_block
from cnnscope.render.page import LONGEST_CELL, cut, indented, line
from cnnscope.render.view import View


def summary(report: ModelReport, view: View, columns: Sequence[Column]) -> str:
    """A heading, the table, and the totals as a list."""
    lines = [f"### {escape(report.source.name)}", "", markdown_block(facts.header(report)), ""]
    lines.append(line([escape(column.title) for column in columns]))
    lines.append(line(["---:" if column.number else ":---" for column in columns]))
    for row in view.lines:
        cells = [escape(cut(column.cell(row, report.totals), LONGEST_CELL)) for column in columns]
        lines.append(line([indented(cell) for cell in cells]))
    lines.append("")
    lines += [f"- **{escape(title)}**: {escape(value)}" for title, value in facts.totals(report)]
    lines += [f"- {markdown_block(finding)}" for finding in facts.findings(report)]
    left_out = facts.omitted(view)
    if left_out:
        lines += ["", f"*{escape(left_out)}*"]
    return "\n".join(lines) + "\n"
