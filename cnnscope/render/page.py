"""A report as a page: a heading, tables of text, sentences below; as text and as Markdown.

Every report but the summary (which folds, and draws bars) is laid out here: its own file makes a
`Page` of it, and this one knows about widths, alignment and escaping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

_GAP = 2


class Heading(NamedTuple):
    """A column: its title and how it behaves where a terminal is too narrow for all of them."""

    title: str
    left: bool = False  # text begins at the left, numbers end at the right
    least: int | None = None  # may be cut to so many characters; None: never cut
    keep: str = "end"  # which end of a text that is cut is worth reading: "start" or "end"
    drop: int = 0  # columns are left out by falling number, 0 never


class Table(NamedTuple):
    """Rows of text under headings; `styles` has a Rich style for each row, or nothing at all."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...] = ()
    caption: str = ""


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
        shown.append(f"{cut('too narrow for ' + ', '.join(dropped), width)}\n", "dim")
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
    for title, sentence in below:
        if title == "!":
            shown.append("\n".join(wrap(f"! {sentence}", width, "  ")), "yellow")
        else:
            shown.append(f"{title:<{indent}}", "bold")
            shown.append("\n".join(wrap(sentence, width, " " * indent, first=indent)))
        shown.append("\n")


def plain(shown: Text) -> Text:
    """For a terminal that has no more than ASCII."""
    replaced = shown.plain.replace("·", "|").replace("…", "~").replace("\u2500", "-")
    return Text(replaced.encode("ascii", "replace").decode())


def _append_table(shown: Text, table: Table, width: int | None) -> list[str]:
    """Write the table; the titles of columns that did not fit."""
    rows = (tuple(h.title for h in table.headings), *table.rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.headings))]
    kept = _fit(table.headings, widths, width)
    styles = ("bold", *table.styles) if table.styles else ("bold", *[""] * len(table.rows))
    for row, style in zip(rows, styles, strict=True):
        cells = [_cell(row[i], widths[i], table.headings[i]) for i in kept]
        shown.append((" " * _GAP).join(cells).rstrip(), style)
        shown.append("\n")
    return [h.title for i, h in enumerate(table.headings) if i not in kept]


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
        lines += [escape(page.header), ""]
    lines += [*_items(page.above), *[""] * bool(page.above)]
    for table in page.tables:
        if table.caption:
            lines += [f"**{escape(table.caption)}**", ""]
        lines.append(line([h.title for h in table.headings]))
        lines.append(line([":---" if h.left else "---:" for h in table.headings]))
        lines += [line([indented(escape(cell)) for cell in row]) for row in table.rows]
        lines.append("")
    lines += _items(page.below)
    return "\n".join(lines).rstrip("\n") + "\n"


def _items(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Titled sentences as a list."""
    return [
        f"- **{title}**: {escape(sentence)}" if title not in ("", "!") else f"- {escape(sentence)}"
        for title, sentence in pairs
    ]


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return f"| {' | '.join(cells)} |"


def indented(cell: str) -> str:
    """Leading spaces that Markdown keeps."""
    bare = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(bare)) + bare


def escape(value: str) -> str:
    """Text in which nothing is markup."""
    for character in "\\|*_<>`[]":
        value = value.replace(character, f"\\{character}")
    return value
