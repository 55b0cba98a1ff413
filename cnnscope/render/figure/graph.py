"""The style "graph": boxes of operations with shortcuts, as He et al. 2015 draw (figure 3).

Models stand side by side, and what has one resolution stands at one height. The layout is that of
the graph of `report`; here rows are moved so that resolutions meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from cnnscope.records import figure as f
from cnnscope.records import graph as g
from cnnscope.records.figure import FigureContents, Flow, Step
from cnnscope.records.graph import Graph, GraphEdge, GraphNode
from cnnscope.render.figure import palette, words
from cnnscope.render.figure.fonts import Font
from cnnscope.render.figure.legend import legend
from cnnscope.render.figure.scene import (
    INK,
    SOFT,
    Box,
    Item,
    Page,
    Point,
    Polyline,
    Scene,
    Text,
    arrow,
    bounds,
    box_of,
    circle,
    framed,
    rectangle,
)
from cnnscope.render.graph.restack import OPEN, Line, Spacing, restack
from cnnscope.text import printable

_TEXT, _NAME = 6.5, 8.0
_LEGIBLE = 5.0  # points: text that may become smaller before detail is left out
_EDGE, _LEAST = 4.0, 36.0  # of a box: beside its text, least width
_SLOT = 5.0  # between lines that enter a box
_ROUND = 3.7  # radius of a join
_BESIDE = 2.4  # from the middle of a join, where a second line enters
_APART = 20.0  # between models
_TIMES = 7.5  # size of a number of times
_PALE, _AREA = "#d5dbe1", "#f1f4f7"


class _Space(NamedTuple):
    """Distances: of a box its height, between resolutions, and between boxes and lines."""

    high: float
    band: float
    lines: Spacing


_WIDE = _Space(10.5, 9.0, Spacing(gap=6.5, track=4.0, slot=_SLOT, lane=4.0, side=5.0))
_CLOSE = _Space(9.0, 7.0, Spacing(gap=5.0, track=3.4, slot=_SLOT, lane=3.4, side=4.0))


class _Column(NamedTuple):
    """A model: its boxes by step, its lines, its axis, and top and bottom of each band."""

    flow: Flow
    boxes: Mapping[int, Box]
    lines: Sequence[tuple[f.FlowEdge, tuple[Point, ...]]]
    axis: float
    bands: Sequence[tuple[float, float]]


class _Rows(NamedTuple):
    """Bands of several models that stand at one height."""

    tops: Sequence[float]
    end: float
    labels: Sequence[tuple[str, ...]]


def graph(contents: FigureContents, font: Font, page: Page) -> Scene:
    """Draw models side by side; with less detail where text would be too small to read.

    Args:
        contents: flows with their layouts, and how their resolutions are aligned.
        font: of all text.
        page: width and height that the drawing may have.
    """
    made: list[Scene] = []
    level: FigureContents | None = contents
    while level is not None:
        for space in (_WIDE, _CLOSE):
            scene = _side_by_side(level, font, space)
            share = page.share(scene)
            if share == 1 or (space is _CLOSE and share * _TEXT >= _LEGIBLE):
                return page.fitted(scene)
            made.append(scene)
        level = level.coarser
    return page.fitted(max(made, key=page.share))


def _side_by_side(contents: FigureContents, font: Font, space: _Space) -> Scene:
    columns = [_column(flow, font, space) for flow in contents.flows]
    rows = _aligned(columns, contents, space.band)
    x = max((font.width(line, _TEXT) for one in rows.labels for line in one), default=0.0) + 8
    items: list[Item] = []
    parts: list[Box] = []
    for number, column in enumerate(columns):
        scene = _standing(column, contents, number, rows, font)
        scene = scene.moved(x - bounds(scene.items, font).x, 0.0)
        items += scene.items
        parts += scene.parts
        x = bounds(scene.items, font).right + _APART
    behind = _bands(rows, x - _APART, space.band)
    items += _legends(contents.flows, font, rows.end + 12, x - _APART)
    return framed([*behind, *items], font, parts)


def _standing(
    column: _Column, contents: FigureContents, number: int, rows: _Rows, font: Font
) -> Scene:
    """A model at the height of its resolutions, below its name where there are several."""
    moved = _moved(column, [rows.tops[row] for row in _rows_of(contents, number)])
    drawn = [*_frames(moved, font), *_drawn(moved)]
    if len(contents.flows) > 1:
        name = printable(column.flow.name, 40)
        drawn.append(Text(moved.axis, rows.tops[0] - 8, name, _NAME, bold=True))
    return Scene(0.0, 0.0, tuple(drawn), font, tuple(moved.boxes.values()))


# ------------------------------------------------------------------------------ coordinates


def _column(flow: Flow, font: Font, space: _Space) -> _Column:
    """Boxes and lines of a model, as the layout has them."""
    layout = flow.layout or g.Layout()
    slots = _slots(flow)
    sizes = [_size(step, font, slots[n], space.high) for n, step in enumerate(flow.steps)]
    alone = all(place.rail == layout.trunk for place in layout.places)
    widest = max((w for w, _ in sizes), default=_LEAST) if alone else 0.0
    steps = (GraphNode(g.LAYER, 0, "", "", "", "", row=n) for n in range(len(flow.steps)))
    nodes = (_root(flow, layout), *steps)

    def size(node: GraphNode, opened: bool) -> tuple[float, float]:
        if opened:
            return 0.0, 0.0
        wide, high = sizes[node.row]
        boxed = flow.steps[node.row].kind not in (f.JOIN, f.INPUT)
        return (max(wide, widest) if boxed else wide), high

    drawing = restack(Graph(flow.name, nodes), {0: OPEN}, size, space.lines)
    boxes = {b.node - 1: Box(b.x, b.y, b.width, b.height) for b in drawing.boxes if b.node}
    trunk = [p.node for p in layout.places if p.rail == layout.trunk]
    lines = [(flow.edges[line.edge], _ends(flow, line, boxes)) for line in drawing.lines]
    return _Column(flow, boxes, lines, boxes[trunk[0]].middle[0], _extents(flow, boxes))


def _root(flow: Flow, layout: g.Layout) -> GraphNode:
    """The model as a block of the page's graph, whose children are the steps."""
    ports: dict[int, int] = {}
    edges = []
    for edge in flow.edges:
        into = ports[edge.target] = ports.get(edge.target, -1) + 1
        edges.append(GraphEdge(edge.source + 1, 0, edge.target + 1, into))
    places = tuple(g.Place(p.node + 1, p.row, p.rail) for p in layout.places)
    return GraphNode(
        g.BLOCK, -1, "", "", "", "",
        children=tuple(range(1, len(flow.steps) + 1)),
        edges=tuple(edges),
        layout=g.Layout(
            places, layout.rows, layout.rails, layout.trunk, layout.tracks, layout.lanes,
            layout.routes, layout.inputs, layout.outputs,
        ),
    )  # fmt: skip


def _slots(flow: Flow) -> list[int]:
    """How far from the middle of each step lines enter and leave it."""
    found = [0] * len(flow.steps)
    for edge, route in zip(flow.edges, flow.layout.routes if flow.layout else (), strict=False):
        found[edge.source] = max(found[edge.source], abs(route.exit))
        found[edge.target] = max(found[edge.target], abs(route.entry))
    return found


def _size(step: Step, font: Font, slots: int, high: float) -> tuple[float, float]:
    if _is_round(step):
        return 2 * _ROUND, 2 * _ROUND
    wide = font.width(label(step), _TEXT) + 2 * _EDGE
    least = 24.0 if step.kind == f.JOIN else _LEAST
    return max(wide, least, 2 * slots * _SLOT + 8), high


def _is_round(step: Step) -> bool:
    """Return True for a join with a sign."""
    return step.kind == f.JOIN and step.label in words.SIGNS


def label(step: Step) -> str:
    """What a box says: 3x3 conv, 64, /2."""
    if step.kind == f.JOIN:
        return words.joined(step)
    if step.kind == f.INPUT:
        return words.named_input(step)
    parts = [words.operation(step)]
    weighs = step.layer is None or step.layer.out_channels is not None
    if weighs and step.channels is not None:
        parts.append(str(step.channels))
    if step.layer is not None:
        parts += filter(None, (words.strides(step.layer), words.more(step.layer)))
    parts += [f"{step.parallel} in parallel"] if step.parallel > 1 else []
    return ", ".join(parts) + (f" {words.TIMES} {step.times}" if step.times > 1 else "")


def _ends(flow: Flow, line: Line, boxes: Mapping[int, Box]) -> tuple[Point, ...]:
    """A line that meets the circles of joins where these are."""
    edge = flow.edges[line.edge]
    points = list(line.points)
    for step, at, sign in ((edge.source, 0, 1), (edge.target, -1, -1)):
        if not _is_round(flow.steps[step]):
            continue
        x, y = boxes[step].middle
        beside = max(-_BESIDE, min(_BESIDE, points[at][0] - x))
        before = points[at][0]
        points[at] = x + beside, y + sign * (_ROUND**2 - beside**2) ** 0.5
        inner = 1 if at == 0 else -2
        if len(points) > 2 and points[inner][0] == before:
            points[inner] = x + beside, points[inner][1]
    return tuple(points)


def _extents(flow: Flow, boxes: Mapping[int, Box]) -> list[tuple[float, float]]:
    """Top and bottom of each band."""
    row = {p.node: p.row for p in (flow.layout.places if flow.layout else ())}
    found = []
    for band in flow.bands:
        inside = [box for n, box in boxes.items() if band.first <= row[n] <= band.last]
        found.append((min(b.y for b in inside), max(b.bottom for b in inside)))
    return found


# -------------------------------------------------------------------------------- alignment


def _rows_of(contents: FigureContents, number: int) -> list[int]:
    """The row in which each band of a model stands."""
    return [row for row, bands in enumerate(contents.rows) if bands[number] is not None]


def _aligned(columns: Sequence[_Column], contents: FigureContents, apart: float) -> _Rows:
    """Tops of all rows, each as high as its highest band."""
    y, tops, labels = 0.0, [], []
    for bands in contents.rows:
        inside = [
            (column, number)
            for column, number in zip(columns, bands, strict=True)
            if number is not None
        ]
        tops.append(y)
        y += apart + max(c.bands[n][1] - c.bands[n][0] for c, n in inside)
        labels.append(_label([c.flow.bands[n] for c, n in inside], y - apart - tops[-1]))
    return _Rows(tops, y - apart, labels)


def _label(bands: Sequence[f.Band], high: float) -> tuple[str, ...]:
    """The resolution of a row, or those of its models; in two lines where these fit."""
    sizes = []
    for band in bands:
        one, other = map(words.resolution, band.sizes)
        sizes.append(one if one == other else f"{one}\N{EN DASH}{other}")
    size = ", ".join(dict.fromkeys(sizes))
    return ("output", f"size: {size}") if high > 14 else (f"size: {size}",)


def _moved(column: _Column, tops: Sequence[float]) -> _Column:
    """A model whose bands begin at other heights; what is between two bands is stretched."""
    marks = [(column.bands[0][0], tops[0])]
    for (top, bottom), new in zip(column.bands, tops, strict=True):
        marks += [(top, new), (bottom, bottom + new - top)]

    def at(y: float) -> float:
        for (a, new_a), (b, new_b) in pairwise(marks):
            if a <= y <= b and b > a:
                return new_a + (y - a) * (new_b - new_a) / (b - a)
        return y - marks[-1][0] + marks[-1][1] if y > marks[-1][0] else y - marks[0][0] + tops[0]

    boxes = {n: box._replace(y=at(box.y)) for n, box in column.boxes.items()}
    lines = [(edge, tuple((x, at(y)) for x, y in way)) for edge, way in column.lines]
    return column._replace(boxes=boxes, lines=lines)


# ---------------------------------------------------------------------------------- drawing


def _drawn(column: _Column) -> Iterator[Item]:
    for edge, way in sorted(column.lines, key=lambda one: one[0].grows):
        colour = INK if len(way) == 2 else SOFT
        yield from arrow(way, colour, width=0.55, dash=edge.grows, radius=3.0, size=0.85)
    for number, box in column.boxes.items():
        yield from _box(column.flow.steps[number], box)


def _box(step: Step, box: Box) -> Iterator[Item]:
    x, y = box.middle
    if _is_round(step):
        yield circle((x, y), _ROUND, "#ffffff", INK)
        yield Text(x, y + 2.1, words.sign(step), _TEXT, bold=True)
        return
    tint = palette.of(step)
    if step.kind == f.JOIN:
        yield rectangle(box, "#ffffff", INK, radius=box.height / 2)
    else:
        radius = box.height / 2 if step.kind == f.INPUT else 1.6
        yield rectangle(box, tint.fill, tint.line, radius=radius)
    yield Text(x, y + 2.3, label(step), _TEXT, room=box.width - 3)


def _frames(column: _Column, font: Font) -> Iterator[Item]:
    """An area around what repeats, with the number of times."""
    groups: dict[int, list[int]] = {}
    for number, step in enumerate(column.flow.steps):
        if step.group >= 0:
            groups.setdefault(step.group, []).append(number)
    for members in groups.values():
        area = _framed(column, members, font)
        yield rectangle(area, _AREA, _PALE, radius=3.0)
        times = f"{words.TIMES} {column.flow.steps[members[0]].repeats}"
        yield _beside(times, area, [b for n, b in column.boxes.items() if n not in members], font)


def _framed(column: _Column, members: Sequence[int], font: Font) -> Box:
    """The area of steps that repeat, with the shortcuts beside them."""
    boxes = [column.boxes[n] for n in members]
    top, bottom = min(b.y for b in boxes), max(b.bottom for b in boxes)
    inside: list[Item] = [rectangle(box) for box in boxes]
    for edge, way in column.lines:
        before = edge.source == members[0] - 1 and len(way) > 2
        if edge.target in members and (edge.source in members or before):
            inside.append(Polyline(tuple((x, min(max(y, top), bottom)) for x, y in way)))
    around = bounds(inside, font)
    return Box(around.x - 3, around.y - 3, around.width + 6, around.height + 6)


def _beside(times: str, area: Box, others: Sequence[Box], font: Font) -> Text:
    """The number of times at the left of an area, or where no other box stands."""
    y = area.middle[1] + 2.4
    left = Text(area.x - 3, y, times, _TIMES, "end", bold=True)
    places = (
        left,
        Text(area.right + 3, y, times, _TIMES, "start", bold=True),
        *(left._replace(y=area.y + share * area.height) for share in (0.2, 0.8, 0.35, 0.65)),
    )
    free = (at for at in places if not any(box_of(at, font).meets(box) for box in others))
    return next(free, left)


def _bands(rows: _Rows, right: float, apart: float) -> Iterator[Item]:
    """Resolutions at the left, with a line between two of them."""
    for number, (top, lines) in enumerate(zip(rows.tops, rows.labels, strict=True)):
        if number:
            y = top - apart / 2
            yield Polyline(((0.0, y), (right, y)), _PALE, 0.4, dash=True)
        for at, line in enumerate(lines):
            yield Text(0.0, top + 6 + 7.5 * at, line, _TEXT, "start", colour=SOFT)


def _legends(flows: Sequence[Flow], font: Font, y: float, wide: float) -> Iterator[Item]:
    edges = [edge for flow in flows for edge in flow.edges if edge.grows]
    if edges:
        shown = {words.of_layer(e.projection) for e in edges if e.projection is not None}
        said = "shortcut whose shape changes"
        said += f": {' or '.join(sorted(shown))}" if shown else ""
        yield Polyline(((0.0, y + 3), (14.0, y + 3)), SOFT, 0.55, dash=True)
        yield Text(18.0, y + 5.4, said, _TEXT, "start", colour=SOFT)
        y += 11
    yield from legend(
        [step for flow in flows for step in flow.steps], font, y, most=max(wide, 120.0), x=0.0
    )
