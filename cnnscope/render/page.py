"""A report as a page: a heading, tables of text, sentences below; as text and as Markdown.

Every report but the summary (which folds, and draws bars) is laid out here: its own file makes a
`Page` of it, and this one knows about widths, alignment and escaping.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from cnnscope.render.escaping import markdown as escape
from cnnscope.render.escaping import markdown_block

_GAP = 2
LONGEST_CELL = 1000  # characters, wherever it is written
LONGEST_SENTENCE = 20_000
_PLAIN = str.maketrans("·…\u2500⎡⎢⎣⎤⎥⎦µ▁▂▃▄▅▆▇█", "|~-[[[]]]u_.-:=+*#")


class Heading(NamedTuple):
    """A column: its title and how it behaves where a terminal is too narrow for all of them."""

    title: str
    left: bool = False  # text begins at the left, numbers end at the right
    least: int | None = None  # may be cut to so many characters; None: never cut
    keep: str = "end"  # which end of a text that is cut is worth reading: "start" or "end"
    drop: int = 0  # columns are left out by falling number, 0 never
    wrap: bool = False  # goes on in the next line instead of being cut


class Table(NamedTuple):
    """Rows of text under headings; `styles` has a Rich style for each row, or nothing at all.

    A cell may have several lines, and reaches over the cells at its right that are None. Where
    `repeat` is not 0, a table that is too wide goes on below, each part with the first `repeat`
    columns. Before the rows in `gaps`, text has an empty line.
    """

    headings: tuple[Heading, ...]
    rows: tuple[tuple[str | None, ...], ...]
    styles: tuple[str, ...] = ()
    caption: str = ""
    repeat: int = 0
    gaps: frozenset[int] = frozenset()

    def filled(self) -> Table:
        """Without the columns that are empty throughout."""
        kept = [i for i in range(len(self.headings)) if any(row[i] for row in self.rows)]
        return self._replace(
            headings=tuple(self.headings[i] for i in kept),
            rows=tuple(tuple(row[i] for i in kept) for row in self.rows),
        )


class Page(NamedTuple):
    """What a report looks like: name and header above, tables, and titled sentences below."""

    name: str
    header: str
    tables: tuple[Table, ...] = ()
    below: tuple[tuple[str, str], ...] = ()  # (title, sentence); a title of "!" is a warning
    above: tuple[tuple[str, str], ...] = ()  # likewise, before the tables


# ------------------------------------------------------------------------------------ text


def text(page: Page, width: int | None = None, *, ascii_only: bool = False) -> Text:
    """The page for a terminal of `width` columns, or as wide as it needs to be (None)."""
    shown = Text(no_wrap=True, overflow="ignore")
    heading(shown, page.name, page.header, width)
    if page.above:
        shown.append("\n")
    sentences(shown, page.above, width)
    dropped: list[str] = []
    for table in page.tables:
        shown.append("\n")
        if table.caption:
            shown.append(f"{cut(table.caption, width)}\n", "bold")
        dropped += _append_table(shown, table, width)
    if page.below:
        shown.append("\n")
    sentences(shown, page.below, width)
    if dropped:
        shown.append(
            f"{cut('too narrow for ' + ', '.join(dict.fromkeys(dropped)), width)}\n", "dim"
        )
    return plain(shown) if ascii_only else shown


def heading(shown: Text, name: str, header: str, width: int | None) -> None:
    """The name in bold and what it is, on one line where they fit."""
    shown.append(cut(name, width), "bold")
    joined = f"   {header}" if header else ""
    if width is not None and len(name) + len(joined) > width:
        joined = "\n" + "\n".join(wrap(header, width))
    shown.append(f"{joined}\n", "dim")


def sentences(shown: Text, below: Sequence[tuple[str, str]], width: int | None) -> None:
    """Titled sentences, aligned; warnings begin with `!`."""
    named = [title for title, _ in below if title != "!"]
    indent = max([11, *map(len, named)]) + 1
    for title, whole in below:
        sentence = cut(whole, LONGEST_SENTENCE)
        if title == "!":
            shown.append("\n".join(wrap(f"! {sentence}", width, "  ")), "yellow")
        else:
            shown.append(f"{title:<{indent}}", "bold")
            shown.append("\n".join(wrap(sentence, width, " " * indent, first=indent)))
        shown.append("\n")


def plain(shown: Text) -> Text:
    """For a terminal that has no more than ASCII."""
    replaced = shown.plain.translate(_PLAIN)
    return Text(replaced.encode("ascii", "replace").decode())


def _append_table(shown: Text, table: Table, width: int | None) -> list[str]:
    """Write the table; the titles of columns that did not fit."""
    dropped: list[str] = []
    for number, part in enumerate(_parts(table, width)):
        if number:
            shown.append("\n")
        dropped += _append_part(shown, part, width)
    return dropped


def _append_part(shown: Text, table: Table, width: int | None) -> list[str]:
    table = table._replace(rows=tuple(tuple(map(bounded, row)) for row in table.rows))
    widths = _widths(table)
    kept = _fit(table.headings, widths, width)
    styles = table.styles or ("",) * len(table.rows)
    titles = tuple(h.title for h in table.headings)
    for number, (row, style) in enumerate(
        zip((titles, *table.rows), ("bold", *styles), strict=True)
    ):
        if number - 1 in table.gaps:
            shown.append("\n")
        for cells in _lines(row, widths, kept, table.headings):
            shown.append((" " * _GAP).join(cells).rstrip(), style)
            shown.append("\n")
    return [h.title for i, h in enumerate(table.headings) if i not in kept]


def _parts(table: Table, width: int | None) -> list[Table]:
    """The table, or where it is too wide and may be: as few parts as fit, of about equal size."""
    wide = range(table.repeat, len(table.headings))
    if width is None or not table.repeat or len(wide) < 2:
        return [table]
    parts = [table]
    for count in range(1, len(wide) + 1):
        size, more = divmod(len(wide), count)
        ends = [table.repeat + (i * size) + min(i, more) for i in range(count + 1)]
        parts = [_columns(table, a, b) for a, b in itertools.pairwise(ends)]
        if all(_total(_widths(part)) <= width for part in parts):
            break
    return parts


def _columns(table: Table, first: int, end: int) -> Table:
    """The repeated columns and those from `first` to before `end`."""

    def chosen(row: tuple[str | None, ...]) -> tuple[str | None, ...]:
        return (*row[: table.repeat], _covering(row, first), *row[first + 1 : end])

    headings = (*table.headings[: table.repeat], *table.headings[first:end])
    return table._replace(headings=headings, rows=tuple(map(chosen, table.rows)))


def _covering(row: Sequence[str | None], index: int) -> str:
    """The text of a cell, or of the one that reaches over it."""
    return next((cell for cell in reversed(row[: index + 1]) if cell is not None), "")


def _widths(table: Table) -> list[int]:
    """Of every column; the last one of several takes what a cell over them needs beside."""
    rows = (tuple(h.title for h in table.headings), *table.rows)
    spans = [(i, end, cell) for row in rows for i, end, cell in _cells(row)]
    widths = [0] * len(table.headings)
    for i, end, cell in sorted(spans, key=lambda span: span[1] - span[0]):
        needed = max(map(len, cell.split("\n")))
        widths[end - 1] += max(needed - _total(widths[i:end]), 0)
    return widths


def _cells(row: Sequence[str | None]) -> list[tuple[int, int, str]]:
    """Cells with the first column that they are in, and the first that they are not."""
    starts = [i for i, cell in enumerate(row) if cell is not None]
    ends = [*starts[1:], len(row)]
    return [(i, end, row[i] or "") for i, end in zip(starts, ends, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _lines(
    row: Sequence[str | None], widths: list[int], kept: list[int], headings: Sequence[Heading]
) -> list[list[str]]:
    """A row as lines of cells, each as wide as its columns."""
    cells = []
    for i, end, text in _cells(row):
        inside = [k for k in kept if i <= k < end]
        if inside:
            width = _total([widths[k] for k in inside])
            texts = text.split("\n")
            if headings[i].wrap:
                texts = [line_ for t in texts for line_ in wrap(t, width, "  ")]
            cells.append((texts, width, headings[i]))
    height = max((len(texts) for texts, _, _ in cells), default=0)
    return [
        [_cell(texts[n] if n < len(texts) else "", width, h) for texts, width, h in cells]
        for n in range(height)
    ]


def _fit(headings: Sequence[Heading], widths: list[int], width: int | None) -> list[int]:
    """Which columns are shown; `widths` shrink to what is left."""
    kept = list(range(len(headings)))
    if width is None:
        return kept

    def excess() -> int:
        return sum(widths[i] for i in kept) + _GAP * (len(kept) - 1) - width

    def shrink(floor: int) -> None:
        for i in kept:
            least = headings[i].least
            if least is not None:
                widths[i] = max(min(widths[i], max(least, floor)), widths[i] - max(excess(), 0))

    shrink(24)
    shrink(0)
    for i in sorted(kept, key=lambda i: -headings[i].drop):
        if excess() > 0 and headings[i].drop:
            kept.remove(i)
    while excess() > 0 and len(kept) > 1:
        kept.pop()
    widths[kept[0]] -= max(excess(), 0)
    return kept


def _cell(value: str, width: int, heading: Heading) -> str:
    value = cut(value, width, keep=heading.keep)
    return value.ljust(width) if heading.left else value.rjust(width)


def cut(value: str, width: int | None, *, keep: str = "start") -> str:
    """At most `width` characters, an ellipsis where some were lost."""
    if width is None or len(value) <= width:
        return value
    if width < 2:
        return value[: max(width, 0)]
    return value[: width - 1] + "…" if keep == "start" else "…" + value[len(value) - width + 1 :]


def bounded(cell: str | None) -> str | None:
    """A cell of which one name of a megabyte does not make a table of gigabytes."""
    if cell is None or len(cell) <= LONGEST_CELL:
        return cell
    return "\n".join(cut(line, LONGEST_CELL) for line in cell.split("\n"))


def wrap(value: str, width: int | None, indent: str = "", first: int = 0) -> list[str]:
    """Lines of at most `width`; the first begins after `first` columns."""
    if width is None:
        return [value]
    lines: list[str] = []
    current, room = "", max(width - first, 8)
    for word in value.split(" "):
        if current and len(current) + 1 + len(word) > room:
            lines.append(current)
            current, room = indent + word, max(width, 8)
        else:
            current = f"{current} {word}" if current else word
    return [*lines, current]


# -------------------------------------------------------------------------------- Markdown


def markdown(page: Page) -> str:
    """The page as GitHub-flavoured Markdown."""
    lines = [f"### {escape(page.name)}", ""]
    if page.header:
        lines += [markdown_block(page.header), ""]
    lines += [*_items(page.above), *[""] * bool(page.above)]
    for table in page.tables:
        if table.caption:
            lines += [f"**{escape(table.caption)}**", ""]
        lines.append(line([escape(h.title) for h in table.headings]))
        lines.append(line([":---" if h.left else "---:" for h in table.headings]))
        for row in table.rows:
            cells = [(bounded(_covering(row, i)) or "").split("\n") for i in range(len(row))]
            lines.append(line(["<br>".join(indented(escape(t)) for t in c) for c in cells]))
        lines.append("")
    lines += _items(page.below)
    return "\n".join(lines).rstrip("\n") + "\n"


def _items(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Titled sentences as a list."""
    return [
        f"- **{escape(title)}**: {escape(sentence)}"
        if title not in ("", "!")
        else f"- {markdown_block(sentence)}"
        for title, sentence in ((title, cut(whole, LONGEST_SENTENCE)) for title, whole in pairs)
    ]


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return f"| {' | '.join(cells)} |"


def indented(cell: str) -> str:
    """Leading spaces that Markdown keeps."""
    bare = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(bare)) + bare
