"""The summary as GitHub-flavoured Markdown."""

from collections.abc import Sequence

from cnnscope.records import ModelReport
from cnnscope.render import facts
from cnnscope.render.columns import Column
from cnnscope.render.view import View


def summary(report: ModelReport, view: View, columns: Sequence[Column]) -> str:
    """A heading, the table, and the totals as a list."""
    lines = [f"### {_escape(report.source.name)}", "", _escape(facts.header(report)), ""]
    lines.append(_line([column.title for column in columns]))
    lines.append(_line(["---:" if column.number else ":---" for column in columns]))
    for line in view.lines:
        cells = [_escape(column.cell(line, report.totals)) for column in columns]
        lines.append(_line([_indented(cell) for cell in cells]))
    lines.append("")
    lines += [f"- **{title}**: {_escape(value)}" for title, value in facts.totals(report)]
    lines += [f"- {_escape(finding)}" for finding in facts.findings(report)]
    left_out = facts.omitted(view)
    if left_out:
        lines += ["", f"*{_escape(left_out)}*"]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _indented(cell: str) -> str:
    """Leading spaces that Markdown keeps."""
    bare = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(bare)) + bare


def _escape(text: str) -> str:
    for character in "\\|*_<>`[]":
        text = text.replace(character, f"\\{character}")
    return text
