"""A chart drawn with matplotlib into an SVG, PDF or PNG file: the one place that imports it.

No state of pyplot is touched, and settings of the user are set aside while a file is drawn: the
same chart is the same file. Text stays text, and is never read as mathematics.
"""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import hypot
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.render.plot.chart import Axis, Chart, Panel, Point, Series, looks, stacked
from cnnscope.render.plot.labels import Box, Grid, Named, along, placed, within
from cnnscope.render.plot.scales import Extent, Tick, extents, place, ticks
from cnnscope.render.plot.terminal import short
from cnnscope.text import printable, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
_SYMBOL, _SMALL, _DENSE = 4.5, 3.0, 60  # points of a symbol, and of one of many
_SETTINGS = {
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "cnnscope",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 9.0,
    "lines.linewidth": 1.4,
    "lines.markersize": _SYMBOL,
    "savefig.dpi": 200,
    "figure.dpi": 100,
}
_STATIC = {  # what would differ between two runs
    "svg": {"Date": None, "Creator": "cnnscope"},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": "cnnscope", "Producer": "matplotlib"},
    "png": {"Software": None},
}
# Okabe and Ito's colours, which the colour-blind tell apart, in an order that differs in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
_HATCHES = ("", "////", "||||", "\\\\\\\\", "xxx", "----", "...", "++++")
_GREY, _INK = "#6b6b6b", "#222222"
_WIDTH, _WIDE = 6.5, 9.0  # inches, of one column of panels and of two
_HEIGHT, _HIGH = 2.2, 4.4  # inches, of one of several panels and of a single one
_TICKS = 7
_LETTER = 4.2  # points of a letter above the axes
_MANY = 120  # bars of a panel
_INCH, _SLANT = 0.075, 0.28  # inches of a letter of a mark, and of a mark that is slanted
_REACH = (1.0, 2.0, 3.5, 5.0, 7.0, 10.0)  # gaps that a name may be away
_LETTERS = 15  # of a legend in an inch
_BESIDE = 0.65  # inches beside the axes of a panel
_SYMBOLS = 8  # letters that a symbol of a legend takes
_LINE = 0.17  # inches, of one line of a legend
_GAP = 3.5  # points between a symbol and its name


class _Style(NamedTuple):
    colour: str
    marker: str
    line: Any
    hatch: str


def draw(chart: Chart, format_: str) -> bytes:
    """The chart as a file.

    Args:
        chart: what to draw.
        format_: one of `FORMATS`.

    Raises:
        RequestError: matplotlib is not installed.
    """
    with _settings():
        figure = _figure(chart)
        written = io.BytesIO()
        metadata = _STATIC[format_]
        figure.savefig(written, format=format_, metadata=metadata)
    return written.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    """Draw with settings of our own, without a word about fonts that lack a character.

    Raises:
        RequestError: matplotlib is not installed.
    """
    mpl = matplotlib()
    with warnings.catch_warnings(), _silent(), mpl.rc_context():
        warnings.simplefilter("ignore")
        mpl.rcParams.update({k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"})
        mpl.rcParams.update(_SETTINGS)
        yield


def matplotlib() -> Any:
    """Import all of it that draws.

    Raises:
        RequestError: it is not installed, or fails.
    """
    try:
        with _silent():
            import matplotlib as mpl
            import matplotlib.figure
    except ModuleNotFoundError as error:
        raise missing(None if error.name == "matplotlib" else error) from error
    except Exception as error:  # its own settings may be broken: MPLBACKEND, a folder of fonts
        raise missing(error) from error
    return mpl


@contextmanager
def _silent() -> Iterator[None]:
    """Keep matplotlib's remarks on the user's settings and fonts off stderr: none matter here."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def missing(error: Exception | None = None) -> RequestError:
    """The error of a chart that cannot be drawn into a file.

    Args:
        error: why matplotlib cannot be imported, None where it is not there.
    """
    why = f"cannot be imported ({printable(str(error), 200)})" if error else "is not installed"
    return RequestError(
        f"a chart in a file needs matplotlib, which {why}: pip install 'cnnscope[plot]'; without "
        "--output, --plot draws in the terminal"
    )


def _figure(chart: Chart) -> Figure:
    """All panels below each other, or in columns; heading above, legends in the panels."""
    from matplotlib.figure import Figure

    columns = min(chart.columns, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    height = _HIGH if rows == 1 else _HEIGHT * rows + 0.8
    height *= 0.8 if columns > 1 and rows == 1 else 1.0
    width = _WIDTH if columns == 1 else _WIDE
    each = width / columns - _BESIDE
    size = (width, height + rows * max(_key(panel, each).height for panel in chart.panels))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(_heading(chart, size[0]), x=0.01, ha="left", fontsize=9, color=_INK)
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(len(chart.panels))]
    for number, (one, panel) in enumerate(zip(axes, chart.panels, strict=True)):
        _panel(one, panel, each, named=not (chart.shared and number))
        if chart.shared and number < len(axes) - 1:
            one.tick_params(axis="x", labelbottom=False)
            one.set_xlabel("")
    figure.draw_without_rendering()  # what is where, before names are placed
    for one, panel in zip(axes, chart.panels, strict=True):
        _names(one, panel)
    return figure


def _heading(chart: Chart, width: float) -> str:
    """Name and header, in lines that are not wider than the figure."""
    lines = [printable(chart.name, 100)]
    return "\n".join(lines + textwrap.wrap(printable(chart.header, 400), int(14 * width)))


def _styles(panel: Panel) -> Iterator[tuple[Series, _Style]]:
    """A colour, a marker, a line and a hatch for each series; no two have all of them in common."""
    for one, number in looks(panel):
        yield one, _Style(_GREY, "", (0, (4, 2)), "") if number is None else _look(number)


def _look(number: int) -> _Style:
    """The first eight differ in everything; those after them meet the same colours otherwise."""
    turns, at = divmod(number, len(_COLOURS))
    other = (at + turns) % len(_MARKERS)
    return _Style(_COLOURS[at], _MARKERS[other], _LINES[other], _HATCHES[other])


def _panel(axes: Axes, panel: Panel, width: float, *, named: bool) -> None:
    """One diagram; `named` if the parts of its x axis have names, which others below it share.

    `width` is that of its axes in inches, about.
    """
    x, y = extents(panel)
    for level in panel.levels:
        axes.axhline(level.value, color=_GREY, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        axes.annotate(
            visible(level.label), (0.01, level.value), xycoords=("axes fraction", "data"),
            xytext=(0, 2), textcoords="offset points", color=_GREY, fontsize=7.5,
        )  # fmt: skip
    pairs = list(_styles(panel))
    _areas(axes, [pair for pair in pairs if pair[0].kind == "area"])
    for one, style in pairs:
        if one.kind != "area":
            _series(axes, one, style)
    _scale(axes, panel, x, y, width)
    _bands(axes, panel, x, named=named)
    _legend(axes, panel, width)


class _Key(NamedTuple):
    """A legend above the axes: columns, letters of a name, inches of all lines but the first."""

    columns: int
    letters: int
    height: float


def _key(panel: Panel, width: float) -> _Key:
    """The legend of a panel whose axes have a width in inches; that of areas stands beside them."""
    names = [visible(one.name) for one in panel.series if one.name and one.kind != "area"]
    room = int(width * _LETTERS)
    letters = room - _SYMBOLS
    columns = max(min(len(names), room // (max(map(len, names), default=0) + _SYMBOLS)), 1)
    lines = sum(len(textwrap.wrap(name, letters)) for name in names[::columns])
    return _Key(columns, letters, _LINE * max(lines - 1, 0))


def _legend(axes: Axes, panel: Panel, width: float) -> None:
    """Above the axes, where it covers nothing; beside them, in their order, for areas."""
    if not any(one.name for one in panel.series):
        axes.set_title(visible(panel.title), loc="left", color=_INK)
        return
    areas = any(one.kind == "area" for one in panel.series)
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.01, 1.0),
        "reverse": True,
        "handleheight": 1.4,
    }
    if not areas:
        above = 1.06 if panel.bands else 1.01
        key = _key(panel, width)
        for artist in axes.get_legend_handles_labels()[0]:
            artist.set_label(textwrap.fill(str(artist.get_label()), key.letters))
        place = {"loc": "lower left", "bbox_to_anchor": (0.0, above), "ncols": key.columns}
    axes.legend(
        title=visible(panel.title) or None,
        alignment="left",
        borderaxespad=0.0,
        handlelength=3,
        **place,
    )


def _series(axes: Axes, one: Series, style: _Style) -> None:
    """One series; an empty name has no entry in the legend."""
    xs, ys = [x for x, _ in one.points], [y for _, y in one.points]
    look: dict[str, Any] = {
        "color": style.colour,
        "label": visible(one.name) or "_nolegend_",
        "zorder": 4 if one.first else 2 if one.faint else 3,
    }
    if one.kind == "bars":
        if len(xs) > _MANY:  # an edge would be all of a bar, and each bar takes time
            edges = [x - 0.5 for x in xs] + [xs[-1] + 0.5]
            axes.stairs(ys, edges, fill=True, **look)
        else:
            axes.bar(xs, ys, width=0.8, edgecolor=_INK, linewidth=0.3, **look)
        return
    if one.kind == "points":
        size = _SMALL if len(xs) > _DENSE else _SYMBOL
        look |= {"linestyle": "none", "marker": style.marker, "markersize": size, "alpha": 0.8}
        axes.plot(xs, ys, markeredgecolor="white", markeredgewidth=0.4, **look)
        return
    every = None if one.labels or len(xs) < 30 else (0, max(len(xs) // 12, 1))
    axes.plot(
        xs, ys, linestyle=style.line, linewidth=1.0 if one.faint else 1.4, marker=style.marker,
        markevery=every, drawstyle="steps-post" if one.kind == "steps" else "default", **look,
    )  # fmt: skip


def _areas(axes: Axes, pairs: Sequence[tuple[Series, _Style]]) -> None:
    """Areas on top of each other, told apart by hatches as well."""
    before: list[float] | None = None
    for (one, tops), (_, style) in zip(stacked(tuple(s for s, _ in pairs)), pairs, strict=True):
        axes.fill_between(
            [x for x, _ in one.points], before or [0.0] * len(tops), tops, step="post",
            facecolor=style.colour, edgecolor="white", hatch=style.hatch, linewidth=0.3,
            label=visible(one.name),
        )  # fmt: skip
        before = tops


def _scale(axes: Axes, panel: Panel, x: Extent, y: Extent, width: float) -> None:
    """Ends, marks and names of both axes: those that the terminal has."""
    from matplotlib.ticker import NullLocator

    slanted = _INCH * sum(len(short(name)) + 1 for name in panel.x.names) > width
    for axis, extent, own in ((panel.x, x, axes.xaxis), (panel.y, y, axes.yaxis)):
        if axis.log:
            (axes.set_xscale if own is axes.xaxis else axes.set_yscale)("log")
        (axes.set_xlim if own is axes.xaxis else axes.set_ylim)(*extent)
        marks = [(value, short(label)) for value, label in ticks(axis, extent, _TICKS)]
        look: dict[str, Any] = {}
        if own is axes.xaxis:
            marks = list(_apart(panel.x, extent, marks, width, slanted=slanted))
            look = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        own.set_ticks([value for value, _ in marks], [label for _, label in marks], **look)
        own.set_minor_locator(NullLocator())
        own.set_label_text(visible(axis.label))
    axes.grid(color="#dddddd", linewidth=0.5)


def _apart(
    axis: Axis, extent: Extent, marks: Sequence[Tick], width: float, *, slanted: bool
) -> Iterator[Tick]:
    """Marks whose texts cover none before them, on an axis of so many inches."""
    end = -width
    for value, label in marks:
        room = _SLANT if slanted else _INCH * (len(label) + 1)
        middle = place(axis, extent, value) * width
        if middle - room / 2 >= end:
            yield value, label
            end = middle + room / 2


def _bands(axes: Axes, panel: Panel, x: Extent, *, named: bool) -> None:
    """Every second part of the model is tinted; names stand above, where there is room."""
    width = 72 * axes.get_window_extent().width / axes.figure.dpi
    for number, band in enumerate(panel.bands):
        if number % 2:
            axes.axvspan(band.first, band.last, color="#000000", alpha=0.05, linewidth=0, zorder=0)
        room = width * (band.last - band.first) / (x[1] - x[0]) / _LETTER
        name = within(visible(band.name), int(room))
        if named and name:
            axes.annotate(
                name, ((band.first + band.last) / 2, 1), xycoords=("data", "axes fraction"),
                xytext=(0, 2), textcoords="offset points", ha="center", fontsize=6.5, color=_GREY,
            )  # fmt: skip


# ---------------------------------------------------------------------------------- names


def _names(axes: Axes, panel: Panel) -> None:
    """Names of points beside them, in pixels, where they cover nothing."""
    spots, texts, taken = [], [], _taken(axes, panel)
    for one, style in sorted(_styles(panel), key=lambda pair: not pair[0].first):
        for point, name in zip(one.points, one.labels, strict=False):
            if name:
                colour = _INK if one.first else style.colour
                text = axes.text(
                    0, 0, short(name), fontsize=6.8 if one.first else 5.8, color=colour,
                    transform=None, zorder=5, in_layout=False,
                )  # fmt: skip
                box = text.get_window_extent()
                x, y = _pixels(axes, point)
                spots.append(Named(x, y, box.width, box.height, one.first))
                texts.append(text)
    inside = axes.get_window_extent()
    gap = _GAP * axes.figure.dpi / 72
    room = Box(inside.x0, inside.y0, inside.x1, inside.y1)
    found = placed(spots, Grid(room, (gap, gap), _REACH, apart=gap), taken)
    for text, spot, stand in zip(texts, spots, found, strict=True):
        if stand is None:
            text.remove()
        else:
            _stand(axes, text, stand)
            _lead(axes, spot, stand, 2 * gap)


def _pixels(axes: Axes, point: Point) -> tuple[float, float]:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _stand(axes: Axes, text: Any, box: Box) -> None:
    """Put a name where its box is, in fractions of the axes, which hold at every resolution."""
    text.set_transform(axes.transAxes)
    text.set_position(axes.transAxes.inverted().transform((box.left, box.bottom)))
    text.set_verticalalignment("bottom")


def _lead(axes: Axes, spot: Named, box: Box, near: float) -> None:
    """A thin line from a point to its name, where that is not beside it."""
    x, y = min(max(spot.x, box.left), box.right), min(max(spot.y, box.bottom), box.top)
    if hypot(x - spot.x, y - spot.y) > near:
        ends = axes.transAxes.inverted().transform([(spot.x, spot.y), (x, y)])
        axes.plot(
            ends[:, 0], ends[:, 1], transform=axes.transAxes, color=_GREY, linewidth=0.4, zorder=2.5
        )


def _taken(axes: Axes, panel: Panel) -> list[Box]:
    """Symbols, lines between named points, lines to compare with, and the legend."""
    size = 2.5 * axes.figure.dpi / 72
    made = []
    for one in panel.series:
        if one.kind in ("bars", "area"):
            continue
        spots = [_pixels(axes, point) for point in one.points]
        if not one.faint:
            made += [Box(x - size, y - size, x + size, y + size) for x, y in spots]
        if one.kind != "points" and (one.faint or one.labels):
            corners = [(x - 1, y - 1) for x, y in spots]
            made += along(corners, 2.0, level=one.kind == "steps")
    legend = axes.get_legend()
    if legend is not None:
        frame = legend.get_window_extent()
        made.append(Box(frame.x0, frame.y0, frame.x1, frame.y1))
    return made
