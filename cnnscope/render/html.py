"""A page as HTML for a notebook or a file: one `<div>` that brings its style, all escaped."""

from collections.abc import Sequence

from cnnscope.render.escaping import html as escape
from cnnscope.render.page import LONGEST_SENTENCE, Bar, Heading, Page, Table, cells, cut, indented

_STYLE = (
    ".cnnscope{font-size:.9em}"
    ".cnnscope table{border-collapse:collapse;margin:.5em 0}"
    ".cnnscope th,.cnnscope td{padding:.1em .7em;border:0;text-align:right;white-space:nowrap}"
    ".cnnscope .l{text-align:left}"
    ".cnnscope th{border-bottom:1px solid currentColor}"
)


def html(page: Page) -> str:
    """A heading, the tables and the sentences around them."""
    heading = f"<b>{escape(page.name)}</b>"
    heading += f" &nbsp; {escape(page.header)}" if page.header else ""
    above = "".join(f"<br>{text}" for text in _sentences(page.above))
    below = _sentences(page.below)
    below += [f"<i>{escape(page.omitted)}</i>"] if page.omitted else []
    return (
        f'<div class="cnnscope"><style>{_STYLE}</style>{heading}{above}\n'
        f"{''.join(map(_table, page.tables))}{'<br>'.join(below)}</div>\n"
    )


def document(division: str, title: str) -> str:
    """A file that a browser opens, around the `<div>` of a page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title></head>\n"
        f'<body style="font-family:system-ui,sans-serif">\n{division}</body></html>\n'
    )


def _sentences(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each, its title in bold; warnings begin with `!`."""
    shown = ((title, escape(cut(sentence, LONGEST_SENTENCE))) for title, sentence in pairs)
    return [
        f"! {text}" if title == "!" else f"<b>{escape(title)}</b> {text}" if title else text
        for title, text in shown
    ]


def _table(table: Table) -> str:
    columns, rows = cells(table)
    caption = f"<b>{escape(table.caption)}</b>" if table.caption else ""
    headings = [table.headings[column] for column in columns]
    titles = "".join(f"<th{_side(h)}>{escape(h.title)}</th>" for h in headings)
    body = "\n".join(
        f"<tr>{''.join(_cell(table, i, *cell) for cell in zip(columns, row, strict=True))}</tr>"
        for i, row in enumerate(rows)
    )
    return f"{caption}<table><thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"


def _cell(table: Table, row: int, column: int, lines: Sequence[str]) -> str:
    """A cell, with the bar at its right drawn behind it."""
    beside = table.rows[row][column + 1 : column + 2]
    bar = _bar(beside[0]) if beside and isinstance(beside[0], Bar) else ""
    text = "<br>".join(indented(escape(line)) for line in lines)
    return f"<td{_side(table.headings[column])}{bar}>{text}</td>"


def _side(heading: Heading) -> str:
    return ' class="l"' if heading.left else ""


def _bar(bar: Bar) -> str:
    if not bar.part or not bar.whole:
        return ""
    share = f"{100 * bar.part / bar.whole:.1f}%"
    return f' style="background:linear-gradient(90deg,#7f9fbf66 {share},transparent {share})"'
