"""A report as a page: a heading, tables, sentences below; drawn as text and as Markdown.

The file of a report makes a `Page` of it; this one knows about widths, alignment and escaping.
`html.py` and `latex.py` draw the same page.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from rich.text import Text

from cnnscope.render import units
from cnnscope.render.escaping import markdown as escape
from cnnscope.render.escaping import markdown_block

# What colours mean in every table: much of the whole; different, or to be noted; better; worse.
DEAR, DIFFERENT, GOOD, BAD = "bold magenta", "yellow", "green", "red"
_DEAR = 0.05  # a part of the whole that stands out
_GAP = 2
_BAR = 6  # characters of a whole bar
LONGEST_CELL = 1000  # characters, wherever it is written
LONGEST_SENTENCE = 20_000
_KERNEL = re.compile(r"\w+ \d+(x\d+)*(?! ->)\b")  # `Conv2d 3x3, p1`, and not `Linear 8 -> 9`
_PLAIN = str.maketrans("·…\u2500⎡⎢⎣⎤⎥⎦µ▁▂▃▄▅▆▇█", "|~-[[[]]]u_.-:=+*#")


class Heading(NamedTuple):
    """A column: its title and how it behaves where a terminal is too narrow for all of them."""

    title: str
    left: bool = False  # text begins at the left, numbers end at the right
    least: int | None = None  # may be cut to so many characters; None: never cut
    keep: str = "end"  # what is kept of a text that is cut: "start", "end", "times" (and ` x 12`)
    drop: int = 0  # columns are left out by falling number, 0 never
    wrap: bool = False  # goes on in the next line instead of being cut
    bar: bool = False  # bars, which belong to the column at the left


class Bar(NamedTuple):
    """A part of a whole, to be drawn."""

    part: int
    whole: int


class Box(NamedTuple):
    """Lines in a bracket, and how often; without a bracket where it is one layer, once."""

    lines: tuple[str, ...]
    times: int = 1
    bracket: bool = False


Boxes = tuple[Box, ...]  # below each other
Cell = str | Bar | Boxes | None
_T = TypeVar("_T")


class Table(NamedTuple):
    """Rows of cells under headings; a cell reaches over the cells at its right that are None.

    `styles` has a Rich style for each row, or for each cell of it, or nothing at all. Where
    `repeat` is not 0, a table that is too wide goes on below, each part with the first `repeat`
    columns. `gaps` are rows with some room before them. `yields` is what a narrow terminal takes
    away, in order: a column and the width left to it, 0 for none; else `least` and `drop` say it.
    """

    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    styles: tuple[str | tuple[str, ...], ...] = ()
    caption: str = ""
    repeat: int = 0
    gaps: frozenset[int] = frozenset()
    yields: tuple[tuple[int, int], ...] = ()

    def filled(self) -> Table:
        """Without the columns that are empty throughout."""
        return self.chosen([i for i in range(len(self.headings)) if any(r[i] for r in self.rows)])

    def chosen(self, columns: Sequence[int]) -> Table:
        """These columns of it."""
        return self._replace(
            headings=tuple(self.headings[i] for i in columns),
            rows=tuple(tuple(row[i] for i in columns) for row in self.rows),
            styles=self.styled(columns),
        )

    def styled(self, columns: Sequence[int]) -> tuple[str | tuple[str, ...], ...]:
        """The styles of these columns."""
        return tuple(
            one if isinstance(one, str) else tuple(one[i] for i in columns) for one in self.styles
        )


def dear(part: float, whole: float) -> str:
    """The style of a number that is much of a whole, "" of any other."""
    return DEAR if whole and part / whole >= _DEAR else ""


class Page(NamedTuple):
    """Layout of a report: name and header above, tables, and titled sentences below."""

    name: str
    header: str
    tables: tuple[Table, ...] = ()
    below: tuple[tuple[str, str], ...] = ()  # (title, sentence); a title of "!" is a warning
    above: tuple[tuple[str, str], ...] = ()  # likewise, before the tables
    omitted: str = ""  # what is not shown, and how to see it


# ------------------------------------------------------------------------------------ text


def text(page: Page, width: int | None = None, *, ascii_only: bool = False) -> Text:
    """The page for a terminal of `width` columns, or as wide as it needs to be (None)."""
    shown = Text(no_wrap=True, overflow="ignore")
    _append_heading(shown, page, width)
    if page.above:
        shown.append("\n")
    _append_sentences(shown, page.above, width)
    dropped: list[str] = []
    for table in page.tables:
        shown.append("\n")
        if table.caption:
            shown.append("\n".join([*wrap(table.caption, width), ""]), "bold")
        for number, grid in enumerate(_grids(table, width, ascii_only=ascii_only)):
            shown.append("\n" if number else "")
            dropped += _append_grid(shown, grid, width)
    if page.below:
        shown.append("\n")
    _append_sentences(shown, page.below, width)
    narrow = f"too narrow for {', '.join(dict.fromkeys(dropped))}" if dropped else ""
    if left_out := "; ".join(filter(None, [narrow, page.omitted])):
        shown.append("\n".join(wrap(left_out, width)), "dim")
        shown.append("\n")
    return _plain(shown) if ascii_only else shown


def _append_heading(shown: Text, page: Page, width: int | None) -> None:
    """The name in bold and what it is, on one line where they fit."""
    shown.append(cut(page.name, width), "bold")
    joined = f"   {page.header}" if page.header else ""
    if width is not None and len(page.name) + len(joined) > width:
        joined = "\n" + "\n".join(wrap(page.header, width))
    shown.append(f"{joined}\n", "dim")


def _append_sentences(shown: Text, below: Sequence[tuple[str, str]], width: int | None) -> None:
    """Titled sentences, aligned; warnings begin with `!`."""
    named = [title for title, _ in below if title != "!"]
    indent = max([11, *map(len, named)]) + 1
    for title, whole in below:
        sentence = cut(whole, LONGEST_SENTENCE)
        if title == "!":
            shown.append("\n".join(wrap(f"! {sentence}", width, "  ")), DIFFERENT)
        else:
            shown.append(f"{title:<{indent}}", "bold")
            shown.append("\n".join(wrap(sentence, width, " " * indent, first=indent)))
        shown.append("\n")


def _plain(shown: Text) -> Text:
    """For a terminal that has no more than ASCII."""
    replaced = shown.plain.translate(_PLAIN)
    return Text(replaced.encode("ascii", "replace").decode())


class _Grid(NamedTuple):
    """A table, or a part of one, of which every cell is text."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[str | None, ...], ...]
    table: Table
    between: int = _GAP  # characters between columns

    def extent(self, columns: Sequence[int], widths: Sequence[int]) -> int:
        """Width of columns with their gaps."""
        return sum(widths[i] for i in columns) + sum(map(self.gap, columns[1:]))

    def gap(self, column: int) -> int:
        """Gap to the column at the left."""
        return 1 if self.headings[column].bar else self.between


def _grids(table: Table, width: int | None, *, ascii_only: bool) -> list[_Grid]:
    """The table, or where it is too wide and may be: as few parts as fit, of about equal size."""
    rows = tuple(
        tuple(bounded(_written(cell, _tall, ascii_only=ascii_only)) for cell in row)
        for row in table.rows
    )
    grids = [_Grid(table.headings, rows, table)]
    wide = range(table.repeat, len(table.headings))
    if width is None or not table.repeat or len(wide) < 2:
        return grids
    for count in range(1, len(wide) + 1):
        size, more = divmod(len(wide), count)
        ends = [table.repeat + (i * size) + min(i, more) for i in range(count + 1)]
        grids = [_part(table, rows, a, b) for a, b in itertools.pairwise(ends)]
        if all(g.extent(range(len(g.headings)), _widths(g)) <= width for g in grids):
            break
    return grids


def _part(table: Table, rows: Iterable[tuple[str | None, ...]], first: int, end: int) -> _Grid:
    """The repeated columns and those from `first` to before `end`."""
    headings = (*table.headings[: table.repeat], *table.headings[first:end])
    styles = table.styled([*range(table.repeat), *range(first, end)])
    cells = tuple(
        (*row[: table.repeat], _covering(row, first), *row[first + 1 : end]) for row in rows
    )
    return _Grid(headings, cells, table._replace(styles=styles))


def _written(
    cell: Cell, box: Callable[[Box], Iterable[str]], *, ascii_only: bool = False
) -> str | None:
    """A cell as text, which may have several lines."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, Bar):
        return units.bar(cell.part, cell.whole, _BAR, ascii_only=ascii_only)
    return "\n".join(line for one in cell for line in box(one))


def _tall(box: Box) -> list[str]:
    """A bracket as high as it has lines."""
    if not box.bracket:
        return list(box.lines)
    width, inner = max(map(len, box.lines)), len(box.lines) - 2
    left, right = "[", "]"
    if inner >= 0:
        left, right = f"⎡{'⎢' * inner}⎣", f"⎤{'⎥' * inner}⎦"
    lines = [f"{a}{text:<{width}}{b}" for a, text, b in zip(left, box.lines, right, strict=True)]
    if box.times > 1:
        lines[len(lines) // 2] += f" x {box.times}"
    return lines


def inline(box: Box) -> list[str]:
    """[3x3, 64; 3x3, 64] x 2: where characters have no fixed width."""
    if not box.bracket:
        return list(box.lines)
    return [f"[{'; '.join(box.lines)}]" + (f" x {box.times}" if box.times > 1 else "")]


def _append_grid(shown: Text, grid: _Grid, width: int | None) -> list[str]:
    """Write a table; the titles of columns that did not fit."""
    widths = _widths(grid)
    kept, grid = _fit(grid, widths, width)
    styles = grid.table.styles or ("",) * len(grid.rows)
    each = any(isinstance(style, tuple) for style in styles)
    bold = ("bold",) * len(grid.headings) if each else "bold"
    titles = tuple(h.title for h in grid.headings)
    for number, (row, style) in enumerate(zip((titles, *grid.rows), (bold, *styles), strict=True)):
        if number - 1 in grid.table.gaps:
            shown.append("\n")
        if any(row[i] for i in range(len(row)) if i not in kept) and _is_title(row, kept):
            continue  # nothing is left of it
        for cells in _lines(row, widths, kept, grid):
            _append_line(shown, cells, style, grid)
    return [h.title for i, h in enumerate(grid.headings) if i not in kept and not h.bar]


def _is_title(row: Sequence[str | None], kept: Sequence[int]) -> bool:
    """Return True if of some columns the first alone has text."""
    return not any(row[i] for i in kept[1:])


def _append_line(
    shown: Text, cells: Sequence[tuple[int, str]], style: str | tuple[str, ...], grid: _Grid
) -> None:
    """Cells with the columns that they begin in, under one style or each under its own."""
    spaced = [(" " * grid.gap(i) if n else "", cell, i) for n, (i, cell) in enumerate(cells)]
    if isinstance(style, str):
        shown.append("".join(gap + cell for gap, cell, _ in spaced).rstrip(), style)
    else:
        line = Text()
        for gap, cell, column in spaced:
            line.append(gap).append(cell, style[column])
        line.rstrip()
        shown.append_text(line)
    shown.append("\n")


def _covering(row: Sequence[_T], index: int) -> _T:
    """A cell, or the one that reaches over it."""
    return next((cell for cell in reversed(row[: index + 1]) if cell is not None), row[index])


def _widths(grid: _Grid) -> list[int]:
    """Of every column; the last one of several takes what a cell over them needs beside."""
    rows = (tuple(h.title for h in grid.headings), *grid.rows)
    spans = [(i, end, cell) for row in rows for i, end, cell in _cells(row)]
    widths = [_BAR if h.bar else 0 for h in grid.headings]
    for i, end, cell in sorted(spans, key=lambda span: span[1] - span[0]):
        needed = max(map(len, cell.split("\n")))
        widths[end - 1] += max(needed - grid.extent(range(i, end), widths), 0)
    return widths


def _cells(row: Sequence[str | None]) -> list[tuple[int, int, str]]:
    """Cells with the first column that they are in, and the first that they are not."""
    starts = [i for i, cell in enumerate(row) if cell is not None]
    ends = [*starts[1:], len(row)]
    return [(i, end, row[i] or "") for i, end in zip(starts, ends, strict=True)]


def _lines(
    row: Sequence[str | None], widths: list[int], kept: list[int], grid: _Grid
) -> list[list[tuple[int, str]]]:
    """A row as lines of cells, each as wide as its columns and with the first of them."""
    cells = []
    for i, end, text in _cells(row):
        inside = [k for k in kept if i <= k < end]
        if inside:
            width = grid.extent(inside, widths)
            texts = text.split("\n")
            if grid.headings[i].wrap or _has_kernel(grid.headings[i], text):
                texts = [line_ for t in texts for line_ in wrap(t, width, "  ")]
            cells.append((i, texts, width))
    height = max((len(texts) for _, texts, _ in cells), default=0)
    return [
        [(i, _cell(texts[n : n + 1], width, grid.headings[i])) for i, texts, width in cells]
        for n in range(height)
    ]


def _has_kernel(heading: Heading, text: str) -> bool:
    """Return True for a layer and its kernel, which goes on in the next line and is never cut."""
    return heading.keep == "times" and _KERNEL.match(text) is not None


def _fit(grid: _Grid, widths: list[int], width: int | None) -> tuple[list[int], _Grid]:
    """Choose the columns to show, and how near each other; `widths` shrink to what is left."""
    kept = list(range(len(grid.headings)))
    if width is None:
        return kept, grid
    for kept, narrow, near in _choices(grid, widths, width):
        if near.extent(kept, narrow) <= width:
            break
    widths[:] = narrow
    while len(kept) > 1 and near.extent(kept, widths) > width:
        kept.pop()
    for first in kept[:1]:
        widths[first] -= max(near.extent(kept, widths) - width, 0)
    return kept, near


def _choices(
    grid: _Grid, widths: Sequence[int], width: int
) -> Iterator[tuple[list[int], list[int], _Grid]]:
    """Columns, their widths and their distance: fewer and fewer, each time as wide as may be.

    What the table gives up first is given up before columns move nearer to each other.
    """
    steps = grid.table.yields or tuple(_yields(grid.headings))
    drops = [i for i, (_, least) in enumerate(steps) if not least]
    near = (grid, grid._replace(between=1)) if grid.table.yields else (grid,)
    for end in (*drops, len(steps)):
        gone = {column for column, least in steps[:end] if not least}
        kept = [i for i in range(len(grid.headings)) if i not in gone]
        for one in near[: 1 + bool(gone)]:
            shrinks = [step for step in steps[:end] if step[1]]
            yield kept, _shrunk(one, kept, widths, shrinks, width), one


def _shrunk(
    grid: _Grid,
    kept: Sequence[int],
    widths: Sequence[int],
    steps: Iterable[tuple[int, int]],
    width: int,
) -> list[int]:
    """Widths of columns, shrunk in steps to what fits, each to no less than its step says."""
    left = list(widths)
    for column, least in steps:
        excess = grid.extent(kept, left) - width
        if excess > 0 and column in kept:
            left[column] = max(min(left[column], least), left[column] - excess)
    return left


def _yields(headings: Sequence[Heading]) -> Iterator[tuple[int, int]]:
    """Columns are cut to what can be read, then to their least, and then left out."""
    least = [(i, h.least) for i, h in enumerate(headings) if h.least is not None]
    yield from ((i, max(characters, 24)) for i, characters in least)
    yield from least
    last = sorted(range(len(headings)), key=lambda i: -headings[i].drop)
    yield from ((i, 0) for i in last if headings[i].drop)


def _cell(texts: Sequence[str], width: int, heading: Heading) -> str:
    value = cut("".join(texts), width, keep=heading.keep)
    return value.ljust(width) if heading.left else value.rjust(width)


def cut(value: str, width: int | None, *, keep: str = "start") -> str:
    """At most `width` characters, an ellipsis where some were lost; see `Heading.keep`."""
    if width is None or len(value) <= width:
        return value
    if width < 2:
        return value[: max(width, 0)]
    if keep == "end":
        path = _abbreviated(value, width)
        return path if len(path) <= width else "…" + path[len(path) - width + 1 :]
    times = re.search(r" x \d+$", value) if keep == "times" else None
    tail = times[0] if times and len(times[0]) + 4 < width else ""
    return value[: width - 1 - len(tail)] + "…" + tail


def _abbreviated(path: str, width: int) -> str:
    """A dotted path with as many of its first parts shortened as is needed, so that rows differ.

    A letter is left of them, and the number that tells siblings apart: `f….d…1.denselayer2.conv1`.
    """
    if " ... " in path:  # from one row to another
        return path
    parts = path.split(".")
    for i, part in enumerate(parts[:-1]):
        number = part[len(part.rstrip("0123456789")) :]
        short = f"{part[:1]}…{number}"
        parts[i] = short if part != number and len(short) < len(part) else part
        if sum(map(len, parts)) + len(parts) - 1 <= width:
            break
    return ".".join(parts)


def bounded(cell: str | None) -> str | None:
    """A cell of which one name of a megabyte does not make a table of gigabytes."""
    if cell is None or len(cell) <= LONGEST_CELL:
        return cell
    return "\n".join(cut(line, LONGEST_CELL) for line in cell.split("\n"))


def wrap(value: str, width: int | None, indent: str = "", first: int = 0) -> list[str]:
    """Lines of at most `width`; the first begins after `first` columns.

    A word that is longer than a line, such as the path of a layer in 200 others, goes on in the
    next one: nothing of it is lost, and what stands below keeps its place.
    """
    if width is None:
        return [value]
    lines: list[str] = []
    whole = max(width, len(indent) + 8)
    current, room = "", max(width - first, 8)
    for word in value.split(" "):
        if current and len(current) + 1 + len(word) > room:
            lines.append(current)
            current, room = indent + word, whole
        else:
            current = f"{current} {word}" if current else word
        while len(current) > room:
            lines.append(current[:room])
            current, room = indent + current[room:], whole
    return [*lines, current]


# -------------------------------------------------------------------------------- Markdown


def markdown(page: Page) -> str:
    """The page as GitHub-flavoured Markdown."""
    lines = [f"### {escape(page.name)}", ""]
    if page.header:
        lines += [markdown_block(page.header), ""]
    lines += [*items(page.above), *[""] * bool(page.above)]
    for table in page.tables:
        lines += [*markdown_table(table), ""]
    lines += items(page.below)
    lines += ["", f"*{escape(page.omitted)}*"] if page.omitted else []
    return "\n".join(lines).rstrip("\n") + "\n"


def markdown_table(table: Table) -> list[str]:
    """A table in GitHub-flavoured Markdown: its caption, its two lines of headings, its rows."""
    lines = [f"**{escape(table.caption)}**", ""] if table.caption else []
    columns, rows = cells(table)
    headings = [table.headings[column] for column in columns]
    lines.append(_row([escape(h.title) for h in headings]))
    lines.append(_row([":---" if h.left else "---:" for h in headings]))
    lines += [_row(["<br>".join(indented(escape(t)) for t in c) for c in row]) for row in rows]
    return lines


def cells(table: Table) -> tuple[list[int], list[list[list[str]]]]:
    """Columns that are no bars, and the lines of their cells in every row, for no fixed width."""
    columns = [i for i, heading in enumerate(table.headings) if not heading.bar]
    rows = [
        [(bounded(_written(_covering(row, i), inline)) or "").split("\n") for i in columns]
        for row in table.rows
    ]
    return columns, rows


def items(pairs: Sequence[tuple[str, str]], longest: int = LONGEST_SENTENCE) -> list[str]:
    """Titled sentences as a list of Markdown."""
    return [
        f"- **{escape(title)}**: {escape(sentence)}"
        if title not in ("", "!")
        else f"- {markdown_block(sentence)}"
        for title, sentence in ((title, cut(whole, longest)) for title, whole in pairs)
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def indented(cell: str) -> str:
    """Leading spaces that Markdown and HTML keep."""
    bare = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(bare)) + bare
