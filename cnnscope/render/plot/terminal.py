"""A chart drawn with characters: braille for lines, symbols for points, blocks for bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from string import ascii_uppercase
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from cnnscope.render.page import Page, cut, text, wrap
from cnnscope.render.plot.canvas import Canvas
from cnnscope.render.plot.chart import Chart, Panel, Point, Series, looks, stacked
from cnnscope.render.plot.labels import Box, Grid, Named, along, placed, within
from cnnscope.render.plot.scales import Extent, extents, place, ticks
from cnnscope.text import visible

WIDTH = 100  # columns where there is no terminal
HEIGHT = 40  # and its lines
_LEAST, _MOST = 6, 24  # lines of a panel, without what is around it
_BARE, _WHOLE, _AROUND = 3, 6, 8  # lines around a panel, one with its x axis, and all of them
_NARROW = 46  # columns of a panel beside another one
_GAP = 3  # columns between two panels
_LABEL = 26  # columns of a name
_STYLES = (  # a symbol, one without more than ASCII, what fills an area, its ASCII, a colour
    ("●", "o", "█", "#", "cyan"),
    ("▲", "^", "▒", "+", "yellow"),
    ("■", "x", "░", ".", "magenta"),
    ("◆", "*", "▓", "%", "green"),
    ("○", "@", "▞", "/", "blue"),
    ("△", "v", "▚", "\\", "red"),
    ("□", "s", "┃", "|", "bright_cyan"),
    ("◇", "d", "━", "=", "bright_yellow"),
)
_LETTERS = ascii_uppercase  # of series beyond these
_LEVEL, _FAINT = "dim", "dim"
_EVERY = 12  # columns between symbols on a line with many points


class _Style(NamedTuple):
    symbol: str
    fill: str
    colour: str


class _Frame(NamedTuple):
    """A panel with its ends, and the canvas inside its axes."""

    panel: Panel
    x: Extent
    y: Extent
    canvas: Canvas

    def at(self, point: Point) -> tuple[float, float]:
        """Where a point is on the canvas; the last column and row are still inside."""
        across = place(self.panel.x, self.x, point[0]) * self.canvas.columns
        up = place(self.panel.y, self.y, point[1]) * self.canvas.rows
        return min(across, self.canvas.columns - 0.01), min(up, self.canvas.rows - 0.01)

    def cell(self, point: Point) -> tuple[int, int]:
        """The column and row of a point."""
        across, up = self.at(point)
        return int(across), int(up)


def draw(
    chart: Chart, width: int | None = None, height: int | None = None, *, ascii_only: bool = False
) -> Text:
    """The chart as lines of text.

    Args:
        chart: what to draw.
        width: columns of the terminal; None for a file.
        height: its lines; None for a file.
        ascii_only: whether there are no more characters than those.
    """
    width = max(width or WIDTH, 30)
    columns = max(1, min(chart.columns, len(chart.panels), (width + _GAP) // (_NARROW + _GAP)))
    each = (width - _GAP * (columns - 1)) // columns
    rows = -(-len(chart.panels) // columns)
    around = rows * (_BARE if chart.shared else _WHOLE) + _AROUND + len(chart.below)
    lines = ((height or HEIGHT) - around) // rows
    lines = min(max(lines, _LEAST), _MOST if rows == 1 else _MOST // 2)
    margin = max(_margin(panel, lines) for panel in chart.panels) if chart.shared else 0
    last = len(chart.panels) - 1
    drawn = [
        _panel(panel, (each, lines, margin), bare=chart.shared and n < last, ascii_only=ascii_only)
        for n, panel in enumerate(chart.panels)
    ]
    name, header = visible(chart.name), visible(chart.header)
    shown = text(Page(name, header), width, ascii_only=ascii_only)
    for first in range(0, len(drawn), columns):
        shown.append("\n")
        for parts in zip_longest(*drawn[first : first + columns]):
            shown.append_text(_beside(parts, each)).append("\n")
    if chart.below:
        below = text(Page("", "", (), chart.below), width, ascii_only=ascii_only)
        shown.append_text(below[1:])  # without the line of a heading
    return shown


def _beside(parts: Sequence[Text | None], width: int) -> Text:
    """A line of each panel, one after the other."""
    line = Text(no_wrap=True, overflow="ignore")
    for number, part in enumerate(parts):
        line.append(" " * ((width + _GAP) * number - cell_len(line.plain)))
        if part is not None:
            part.truncate(width)
            line.append_text(part)
    line.rstrip()
    return line


def _marks(panel: Panel, lines: int) -> list[tuple[float, str]]:
    """Marks of the y axis of so many lines."""
    return ticks(panel.y, extents(panel)[1], max(lines // (2 if panel.y.log else 3), 2))


def _margin(panel: Panel, lines: int) -> int:
    """Columns that their texts take."""
    return max((len(label) for _, label in _marks(panel, lines)), default=0)


def _panel(panel: Panel, size: tuple[int, int, int], *, bare: bool, ascii_only: bool) -> list[Text]:
    """One diagram: what its y axis is, the canvas in its axes, what its x axis is, the legend.

    A bare one stands above another one with the same x axis, which says what that is. `size` has
    columns, lines of the canvas, and columns at the left of the axes, if more than it takes.
    """
    x, y = extents(panel)
    width, lines, margin = size
    marks, left = _marks(panel, lines), max(_margin(panel, lines), margin)
    canvas = Canvas(width - left - 2, lines, ascii_only=ascii_only)
    frame = _Frame(panel, x, y, canvas)
    _fill(frame)
    heading = panel.title and f"{panel.title}: "
    made = [Text(cut(visible(f"{heading}{panel.y.label}"), width), "bold")]
    bar, mark, corner = ("|", "+", "+") if ascii_only else ("│", "┤", "└")
    at = {int(frame.at((x[0], value))[1]): label for value, label in marks}
    for number, line in enumerate(canvas.lines()):
        row = lines - 1 - number
        label = at.get(row, "")
        edge = mark if label else bar
        made.append(Text(f"{label:>{left}} {edge}", "dim", no_wrap=True).append_text(line))
    made += _below(frame, left, corner)[: 1 if bare else None]
    return [*made, *_legend(panel, width, ascii_only=ascii_only)]


# ------------------------------------------------------------------------------- the canvas


def _styles(panel: Panel, *, ascii_only: bool) -> list[_Style]:
    """A symbol and a colour of its own for each series; faint ones have none."""
    return [_style(number, ascii_only=ascii_only) for _, number in looks(panel)]


def _style(number: int | None, *, ascii_only: bool) -> _Style:
    if number is None:
        return _Style("", "", _FAINT)
    symbol, plain, fill, plain_fill, colour = _STYLES[number % len(_STYLES)]
    if number >= len(_STYLES):  # letters, of which there are enough
        letter = _LETTERS[(number - len(_STYLES)) % len(_LETTERS)]
        return _Style(letter, letter, colour)
    return _Style(plain, plain_fill, colour) if ascii_only else _Style(symbol, fill, colour)


def _fill(frame: _Frame) -> None:
    """Lines to compare with, then the series, those that come first on top; then the names."""
    panel = frame.panel
    pairs = list(zip(panel.series, _styles(panel, ascii_only=frame.canvas.ascii_only), strict=True))
    _levels(frame)
    _areas(frame, [(one, style) for one, style in pairs if one.kind == "area"])
    pairs.sort(key=lambda pair: (pair[0].first, not pair[0].faint))
    for one, style in pairs:
        if one.kind == "bars":
            _bars(frame, one, style)
        elif one.kind in ("line", "steps"):
            _line(frame, one, style)
    for one, style in pairs:
        if one.kind in ("points", "line", "steps") and not one.faint:
            _symbols(frame, one, style)
    _names(frame, pairs)
    _level_names(frame)


def _levels(frame: _Frame) -> None:
    """Lines across."""
    canvas = frame.canvas
    for level in frame.panel.levels:
        _, row = frame.cell((frame.x[0], level.value))
        canvas.put(0, row, _dash(canvas) * canvas.columns, _LEVEL)


def _dash(canvas: Canvas) -> str:
    return "-" if canvas.ascii_only else "╌"


def _level_names(frame: _Frame) -> None:
    """The name of each line across, at the first place where it covers nothing."""
    canvas = frame.canvas
    for level in frame.panel.levels:
        label = f" {visible(level.label)} "
        width = cell_len(label)
        _, row = frame.cell((frame.x[0], level.value))
        places = range(1, canvas.columns - width)
        free = (column for column in places if canvas.empty(column, row, width, _dash(canvas)))
        column = next(free, None)
        if column is not None:
            canvas.put(column, row, label, _LEVEL)


def _areas(frame: _Frame, pairs: Sequence[tuple[Series, _Style]]) -> None:
    """Areas on top of each other: the highest value of each column."""
    canvas = frame.canvas
    tops = stacked(tuple(one for one, _ in pairs))
    for (one, heights), (_, style) in reversed(list(zip(tops, pairs, strict=True))):
        for column, value in _columns(
            frame, [(x, y) for (x, _), y in zip(one.points, heights, strict=True)]
        ):
            for row in range(round(place(frame.panel.y, frame.y, value) * canvas.rows)):
                canvas.put(column, row, style.fill, style.colour)


def _columns(frame: _Frame, points: Sequence[Point]) -> Iterator[tuple[int, float]]:
    """For each column the largest value of the points that it shows, or of the one before it."""
    found: dict[int, float] = {}
    for point in points:
        column = int(frame.at(point)[0])
        found[column] = max(found.get(column, 0.0), point[1])
    value = 0.0
    for column in range(frame.canvas.columns):
        value = found.get(column, value)
        yield column, value


def _bars(frame: _Frame, one: Series, style: _Style) -> None:
    """A bar for each point with a gap where there is room; else the largest of each column."""
    canvas = frame.canvas
    each = canvas.columns / (frame.x[1] - frame.x[0])
    wide = max(int(each) - (each >= 2), 1)
    heights: dict[int, float] = {}
    for x, y in one.points:
        first = int(frame.at((x, y))[0] - wide / 2 + 0.5)
        for column in range(first, first + wide):
            heights[column] = max(heights.get(column, 0.0), y)
    for column, y in heights.items():
        eighths = round(8 * place(frame.panel.y, frame.y, y) * canvas.rows)
        eighths = max(eighths, 1 if y else 0)  # whatever is not nothing can be seen
        for row in range(eighths // 8):
            canvas.put(column, row, style.fill, style.colour)
        if eighths % 8:
            rest = " ▁▂▃▄▅▆▇"[eighths % 8]
            canvas.put(column, eighths // 8, "_" if canvas.ascii_only else rest, style.colour)


def _line(frame: _Frame, one: Series, style: _Style) -> None:
    for a, b in pairwise(one.points):
        corner = (b[0], a[1]) if one.kind == "steps" else a
        frame.canvas.line(frame.at(a), frame.at(corner), style.colour)
        frame.canvas.line(frame.at(corner), frame.at(b), style.colour)


def _symbols(frame: _Frame, one: Series, style: _Style) -> None:
    """A symbol at every point, or at some of them where a line has more than there is room for."""
    last = -_EVERY
    whole = one.kind == "points" or any(one.labels)
    several = len(one.points) > frame.canvas.columns // 4 and not whole
    for point in one.points:
        column, row = frame.cell(point)
        if not several or column - last >= _EVERY:
            frame.canvas.put(column, row, style.symbol, style.colour)
            last = column


def _names(frame: _Frame, pairs: Sequence[tuple[Series, _Style]]) -> None:
    """Names of points beside them, where they cover nothing."""
    canvas = frame.canvas
    named: list[Named] = []
    texts: list[tuple[str, str]] = []
    taken: list[Box] = []
    for one, style in reversed(pairs):
        spots = [frame.cell(point) for point in one.points]
        taken += [Box(x, y, x + 1, y + 1) for x, y in spots if not one.faint and one.kind != "bars"]
        if one.kind in ("line", "steps") and (one.faint or one.labels):
            taken += along(spots, 1.0, level=one.kind == "steps")
        for (x, y), name in zip(spots, one.labels, strict=False):
            if name:
                label = short(name)
                named.append(Named(x + 0.5, y + 0.5, cell_len(label) + 1, 1, one.first))
                texts.append((label, "bold" if one.first else style.colour))
    room = Box(0, 0, canvas.columns, canvas.rows)
    most = canvas.columns // 8 if any(one.first for one in named) else len(named)
    boxes = placed(named, Grid(room, (1.5, 1.0), (1.0,), whole=True, most=most), taken)
    for box, (label, colour) in zip(boxes, texts, strict=True):
        if box is not None:
            canvas.put(int(box.left), int(box.bottom), label, colour)


def short(name: str) -> str:
    """A name beside a point: of a long one its end, which tells layers apart."""
    shown = visible(name)
    return shown if len(shown) <= _LABEL else f"…{shown[1 - _LABEL :]}"


# -------------------------------------------------------------------------- around the canvas


def _below(frame: _Frame, left: int, corner: str) -> list[Text]:
    """The x axis with its marks, the parts of the model, and what the axis is."""
    canvas, axis = frame.canvas, frame.panel.x
    plain = canvas.ascii_only
    most = max(canvas.columns // 10, 2)
    marks = [
        (int(frame.at((value, frame.y[0]))[0]), short(label))
        for value, label in ticks(axis, frame.x, most)
    ]
    shown = list(_apart(marks, canvas.columns))
    edge = Canvas(canvas.columns, 1)
    edge.put(0, 0, ("-" if plain else "─") * canvas.columns, "dim")
    for column, _, _ in shown:
        edge.put(column, 0, "+" if plain else "┬", "dim")
    numbers = Canvas(canvas.columns, 1)
    for _, first, label in shown:
        numbers.put(first, 0, label, "dim")
    indent = " " * (left + 1)
    made = [Text(f"{indent}{corner}", "dim").append_text(edge.lines()[0])]
    made.append(Text(f"{indent} ").append_text(numbers.lines()[0]))
    if frame.panel.bands:
        made.append(Text(f"{indent} ").append_text(_bands(frame)))
    made.append(Text(f"{indent} {_centred(axis.label, canvas.columns)}", "bold"))
    for line in made:
        line.rstrip()
    return made


def _centred(label: str, columns: int) -> str:
    shown = cut(visible(label), columns)
    return " " * ((columns - cell_len(shown)) // 2) + shown


def _apart(marks: Sequence[tuple[int, str]], columns: int) -> Iterator[tuple[int, int, str]]:
    """Marks whose texts have room: their column, the first column of the text, the text."""
    end = -1
    for column, label in marks:
        width = cell_len(label)
        first = min(max(column - width // 2, 0), columns - width)
        if first > end and first >= 0:
            yield column, first, label
            end = first + width


def _bands(frame: _Frame) -> Text:
    """The name of each part of the model where it begins, if there is room for it."""
    canvas = Canvas(frame.canvas.columns, 1)
    bar = "|" if frame.canvas.ascii_only else "▏"
    for band in frame.panel.bands:
        first, last = (int(frame.at((end, frame.y[0]))[0]) for end in (band.first, band.last))
        if last > first:
            canvas.put(first, 0, f"{bar}{within(visible(band.name), last - first - 1)}", "cyan")
    return canvas.lines()[0]


def _legend(panel: Panel, width: int, *, ascii_only: bool) -> list[Text]:
    """Names of the series with their symbols, in as many lines as they take."""
    line = Text(no_wrap=True)
    made = [line]
    for one, style in zip(panel.series, _styles(panel, ascii_only=ascii_only), strict=True):
        if not one.name:
            continue
        symbol = style.fill if one.kind in ("area", "bars") else style.symbol
        shown = f"{symbol or ('.' if ascii_only else '⠒⠒')} {visible(one.name)}"
        if line and cell_len(line.plain) + cell_len(shown) + 3 > width:
            line = Text(no_wrap=True)
            made.append(line)
        first, *rest = wrap(shown, width - 2)
        line.append("   " if line else "  ").append(first, style.colour)
        made += [Text(f"    {part}", style.colour) for part in rest]
        line = made[-1]
    return [one for one in made if one]
