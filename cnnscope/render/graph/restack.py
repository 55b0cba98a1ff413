"""Coordinates of a graph from its layouts and from what is open: a pure function of both.

A row is as high as its highest box. Boxes hang on rails by their axes, and from the trunk outward
every rail stands as near to it as the boxes of its rows have room. Lines turn in the gaps between
rows, at tracks that the layout has given them. Nothing is searched, so that a page can do it again
at every click.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cnnscope.records.graph import BORDER, REPEAT, ROOT, Graph, GraphNode, Layout, Route

CLOSED, OPEN, UNFOLDED = 0, 1, 2  # states of a node; all members of a repeat are seen unfolded
Size = tuple[float, float]

PAD = 8.0  # inside the border of a block
HEAD = 24.0  # where the name of a block stands
_SINK = 10.0  # a box is at most so far below the upper edge of its row


class Spacing(NamedTuple):
    """Distances of a drawing; these are those of the page."""

    gap: float = 16.0  # between rows
    track: float = 8.0  # between lines in a gap
    slot: float = 12.0  # between lines that enter a box
    lane: float = 7.0  # beside a lane
    side: float = 9.0  # beside a box


_PAGE = Spacing()


class Box(NamedTuple):
    """A visible box: `inside` is the node whose children are drawn in it, -1 for a closed one."""

    node: int
    depth: int
    x: float
    y: float
    width: float
    height: float
    inside: int


class Line(NamedTuple):
    """The polyline of an edge: the block that has it, its number there, its points."""

    block: int
    edge: int
    points: tuple[Size, ...]


class Drawing(NamedTuple):
    """Boxes, outer before inner, and lines."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


class _Measured(NamedTuple):
    """Size of a box, where its axis is, and where the rails and rows of its inside are."""

    width: float
    height: float
    axis: float
    inside: int = -1
    rails: Sequence[float] = ()  # where they are
    rows: Sequence[Size] = ()  # top and bottom of each, the border's as the first and the last
    heights: Sequence[float] = ()
    children: Mapping[int, _Measured] = {}


def inside(nodes: Sequence[GraphNode], node: int, state: int) -> int:
    """The node whose children are seen in a box, -1 if none are."""
    record = nodes[node]
    if not state or not record.children:
        return -1
    if record.kind == REPEAT and state == OPEN:
        return inside(nodes, record.children[0], OPEN)
    return node


def restack(
    graph: Graph,
    states: Mapping[int, int],
    size: Callable[[GraphNode, bool], Size],
    spacing: Spacing = _PAGE,
) -> Drawing:
    """Place every visible box and line.

    Args:
        graph: with its layouts.
        states: of the nodes that are not closed.
        size: least width and height of a node, closed or (True) the head of an open one.
        spacing: distances between what is drawn.
    """
    stack = _Stack(graph, states, size, spacing)
    whole = stack.measure(ROOT)
    stack.put(ROOT, whole, 0, 0.0, 0.0)
    return Drawing(whole.width, whole.height, tuple(stack.boxes), tuple(stack.lines))


class _Stack:
    def __init__(
        self,
        graph: Graph,
        states: Mapping[int, int],
        size: Callable[[GraphNode, bool], Size],
        spacing: Spacing,
    ) -> None:
        self.nodes, self.states, self.size = graph.nodes, states, size
        self.spacing = spacing
        self.boxes: list[Box] = []
        self.lines: list[Line] = []

    def measure(self, node: int) -> _Measured:
        """Size of a node with what is open inside."""
        within = inside(self.nodes, node, self.states.get(node, CLOSED))
        width, height = self.size(self.nodes[node], within >= 0)
        layout = self.nodes[within].layout if within >= 0 else None
        if layout is None:
            return _Measured(width, height, width / 2)
        children = {place.node: self.measure(place.node) for place in layout.places}
        axes, left, right = _rails(layout, children, self.spacing)
        tops, heights = _rows(layout, children, self.spacing)
        spare = max(0.0, width - left - right - 2 * PAD) / 2
        axis = left + PAD + spare
        return _Measured(
            width=axis + right + PAD + spare,
            height=tops[-1][1],
            axis=axis,
            inside=within,
            rails=[axis + x for x in axes],
            rows=tops,
            heights=heights,
            children=children,
        )

    def put(self, node: int, box: _Measured, depth: int, x: float, y: float) -> None:
        """Add a box, what is inside it, and the lines between that."""
        self.boxes.append(Box(node, depth, x, y, box.width, box.height, box.inside))
        block = self.nodes[box.inside] if box.inside >= 0 else None
        if block is None or block.layout is None:
            return
        layout = block.layout
        ends: dict[int, tuple[float, float, float, int]] = {}
        for child, row, rail in ((p.node, p.row, p.rail) for p in layout.places):
            inner = box.children[child]
            left = x + box.rails[rail] - inner.axis
            spare = box.heights[row + 1] - inner.height
            top = y + box.rows[row + 1][0] + min(spare / 2, _SINK)
            ends[child] = left + inner.axis, top, top + inner.height, row
            self.put(child, inner, depth + 1, left, top)
        axis = x + box.rails[layout.trunk]
        source = axis, y, y + HEAD, -1
        target = axis, y + box.height, y, layout.rows
        for number, (edge, route) in enumerate(zip(block.edges, layout.routes, strict=True)):
            begin = source if edge.source == BORDER else ends[edge.source]
            end = target if edge.target == BORDER else ends[edge.target]
            lane = x + box.rails[layout.lanes[route.lane]] if route.lane >= 0 else 0.0
            tracks = (
                _track(box, begin[3] + 1, route.leave, self.spacing) + y,
                _track(box, end[3], route.arrive, self.spacing) + y,
            )
            ends_at = (begin[0], begin[2]), (end[0], end[1])
            points = _points(route, ends_at, lane, tracks, self.spacing.slot)
            self.lines.append(Line(box.inside, number, points))


def _rails(
    layout: Layout, children: Mapping[int, _Measured], spacing: Spacing
) -> tuple[list[float], float, float]:
    """Where the rails are from the trunk, and how far the block reaches to both sides of it."""
    reach: dict[tuple[int, int], Size] = {}  # to the left and right of a rail, in a row
    for place in layout.places:
        child = children[place.node]
        side = spacing.side
        reach[place.rail, place.row] = child.axis + side, child.width - child.axis + side
    slots = max(map(abs, (*layout.inputs, *layout.outputs)), default=0) * spacing.slot
    lane = spacing.lane
    axes, ends = [0.0] * len(layout.rails), [slots, slots]
    for hand in (0, 1):  # left, right
        sign = 2 * hand - 1
        edges = [reach.get((layout.trunk, r), (0.0, 0.0))[hand] for r in range(layout.rows)]
        gaps = [0.0] * (layout.rows + 1)
        beside = [n for n, rail in enumerate(layout.rails) if rail.column * sign > 0]
        for number in sorted(beside, key=lambda n: abs(layout.rails[n].column)):
            first, last = layout.rails[number].first, layout.rails[number].last
            sizes = [reach.get((number, r), (lane, lane)) for r in range(first, last + 1)]
            x = max(edges[first + n] + size[1 - hand] for n, size in enumerate(sizes))
            x = max(x, *(gap + 2 * lane for gap in gaps[first : last + 2]))
            axes[number] = sign * x
            gaps[first : last + 2] = [x] * (last + 2 - first)
            edges[first : last + 1] = [x + size[hand] for size in sizes]
        ends[hand] = max(ends[hand], *edges, 0.0)
    return axes, ends[0], ends[1]


def _rows(
    layout: Layout, children: Mapping[int, _Measured], spacing: Spacing
) -> tuple[list[Size], list[float]]:
    """Top and bottom of every row, and its height; the border is the first and the last one."""
    heights = [0.0] * (layout.rows + 2)
    for place in layout.places:
        heights[place.row + 1] = max(heights[place.row + 1], children[place.node].height)
    y, found = HEAD, [(0.0, HEAD)]
    for gap, lines in enumerate(layout.tracks):
        y += spacing.gap + spacing.track * max(lines - 1, 0)
        found.append((y, y + heights[gap + 1]))
        y += heights[gap + 1]
    return found, heights


def _track(box: _Measured, gap: int, track: int, spacing: Spacing) -> float:
    """Height of a track in the gap above a row."""
    return box.rows[gap][1] + spacing.gap / 2 + spacing.track * max(track, 0)


def _points(
    route: Route, ends: tuple[Size, Size], lane: float, tracks: Size, slot: float
) -> tuple[Size, ...]:
    """Corners of the way of an edge."""
    begin, end = ends
    x, last = begin[0] + slot * route.exit, end[0] + slot * route.entry
    points = [(x, begin[1])]
    if route.lane < 0:
        if route.leave >= 0:
            points += [(x, tracks[0]), (last, tracks[0])]
        return (*points, (last, end[1]))
    if route.leave >= 0:
        points += [(x, tracks[0]), (lane, tracks[0])]
    if route.arrive >= 0:
        points += [(lane, tracks[1]), (last, tracks[1])]
    return (*points, (last, end[1]))
