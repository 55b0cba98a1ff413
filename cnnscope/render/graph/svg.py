"""A graph as a standalone SVG file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records import graph as g
from cnnscope.records.graph import ROOT, Graph, GraphNode
from cnnscope.render import units
from cnnscope.render.escaping import html
from cnnscope.render.graph import boxes, colours
from cnnscope.render.graph.restack import HEAD, OPEN, UNFOLDED, Box, Drawing, Line, restack

_MARGIN = 16.0
_TITLE = 44.0  # above the graph
_LEGEND = 34.0  # below it
_LINE = "#7b8794"
_ROUND = 5.0  # radius of a line's corners
_FACE = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

HEATS = ("macs", "params", "activations", "element-ops", "field")


_Way = list[tuple[float, float]]


class View(NamedTuple):
    """What of a graph is drawn.

    `depth` levels are open (0: all; None: as many as fit a screen); `unfold` draws all members of
    a repeat; `heat` is one of `HEATS`, or None for colours by kind.
    """

    depth: int | None = None
    unfold: bool = False
    heat: str | None = None


_FIT = View()


def svg(graph: Graph, view: View = _FIT) -> str:
    """Draw a graph as SVG.

    Args:
        graph: of one model, or of two.
        view: what is open, and what colours mean.

    Raises:
        RequestError: an unknown cost.
    """
    if view.heat is not None and view.heat not in HEATS:
        raise RequestError(f"unknown heat {view.heat!r}; use one of {', '.join(HEATS)}")
    drawing = restack(graph, states(graph, view), boxes.size)
    return "".join(_Picture(graph, drawing, view).parts())


def states(graph: Graph, view: View) -> dict[int, int]:
    """The state of every node that is not closed."""
    state = UNFOLDED if view.unfold else OPEN
    if view.depth is None:
        return dict.fromkeys(graph.opened, state)
    found = {}
    level = [ROOT]
    depth = 0
    while level and (not view.depth or depth < view.depth):
        found.update(dict.fromkeys(level, state))
        level = [child for node in level for child in _seen(graph.nodes, node, state)]
        depth += 1
    return found


def _seen(nodes: Sequence[GraphNode], node: int, state: int) -> tuple[int, ...]:
    """Children that are seen in an open node."""
    record = nodes[node]
    if record.kind == g.REPEAT and state == OPEN:
        return _seen(nodes, record.children[0], state)
    return record.children


class _Picture:
    def __init__(self, graph: Graph, drawing: Drawing, view: View) -> None:
        self.graph, self.drawing, self.view = graph, drawing, view
        self.compares = any(node.counterpart for node in graph.nodes)
        self.most = self._most()

    def parts(self) -> Iterator[str]:
        """The file, piece by piece."""
        legend = list(self._legend())
        long = boxes.width(self._subtitle(), boxes.SMALL)
        wide = max(self.drawing.width, long, *(x for x, _ in legend), 160.0) + 2 * _MARGIN
        high = self.drawing.height - HEAD + _TITLE + _LEGEND + 2 * _MARGIN
        name = html(self.graph.name)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high:.0f}" '
            f'viewBox="0 0 {wide:.0f} {high:.0f}" font-family="{_FACE}" font-size="11" '
            f'role="img" aria-label="Graph of {name}">\n'
            f"<title>{name}</title>\n"
            '<rect width="100%" height="100%" fill="#ffffff"/>\n'
            f'<text x="{_MARGIN:g}" y="{_MARGIN + 12:g}" font-size="15" font-weight="700" '
            f'fill="#102a43">{name}</text>\n'
            f'<text x="{_MARGIN:g}" y="{_MARGIN + 28:g}" font-size="10" fill="#52606d">'
            f"{html(self._subtitle())}</text>\n"
        )
        left = (wide - self.drawing.width) / 2
        yield f'<g transform="translate({left:g} {_MARGIN + _TITLE - HEAD:g})">\n'
        yield from map(self._area, self.drawing.boxes)
        yield from self._lines()
        yield from (self._box(box) for box in self.drawing.boxes if box.inside < 0)
        yield from (self._head(box) for box in self.drawing.boxes if box.inside >= 0)
        yield "</g>\n"
        y = high - _MARGIN - 12
        yield f'<g transform="translate({_MARGIN:g} {y:g})" font-size="10" fill="#52606d">\n'
        yield from (part for _, part in legend)
        yield "</g>\n</svg>\n"

    # -- boxes

    def _area(self, box: Box) -> str:
        """The tinted area of an open block; of a repeat the edges of those behind the first."""
        node = self.graph.nodes[box.node]
        if box.node == ROOT or (box.inside < 0 and node.repeat == 1):
            return ""
        line = self._colour(node).line
        behind = (6, 3) if node.repeat > 1 else ()
        frames = [_Rect(box.x + d, box.y - d, box.width, box.height, 6) for d in behind]
        stacked = "".join(frame.drawn(colours.Colour("#ffffff", line)) for frame in frames)
        if box.inside < 0:
            return stacked
        frame = _Rect(box.x, box.y, box.width, box.height, 6)
        return stacked + frame.drawn(colours.Colour(colours.tint(box.depth), line))

    def _head(self, box: Box) -> str:
        """The name of an open block."""
        if box.node == ROOT:
            return ""
        said = boxes.head(self.graph.nodes[box.node])
        x, y = box.x + 9, box.y + HEAD / 2 + 4
        return (
            f'<text x="{x:g}" y="{y:g}" font-weight="700" fill="#243b53">{html(said.title)}'
            f'<tspan dx="7" font-size="10" font-weight="400" fill="#486581">{html(said.note)}'
            "</tspan></text>\n"
        )

    def _box(self, box: Box) -> str:
        """A closed box with its text."""
        node = self.graph.nodes[box.node]
        colour = self._colour(node)
        pill = box.height / 2 if node.kind in (g.INPUT, g.OUTPUT) else 0
        radius = pill or (11 if node.kind == g.OPERATION else 5)
        dashed = node.kind in (g.PARAMETER, g.CONSTANT) or self._status(node) == "removed"
        frame = _Rect(box.x, box.y, box.width, box.height, radius)
        return frame.drawn(colour, dashed=dashed) + self._written(box, node, colour)

    def _written(self, box: Box, node: GraphNode, colour: colours.Colour) -> str:
        said = boxes.text(node)
        middle = box.x + box.width / 2
        first = box.y + (box.height / 2 + 4 if not said.below else 15)
        light = "" if colour.text == "#ffffff" else ' fill-opacity="0.72"'
        note = boxes.width(said.note, boxes.SMALL) + 6 if said.note else 0.0
        out = (
            f'<text x="{middle - note / 2:g}" y="{first:g}" text-anchor="middle" '
            f'font-weight="700" fill="{colour.text}">{html(said.title)}</text>'
        )
        if said.note:
            right = middle + (boxes.width(said.title, boxes.BOLD) + note) / 2
            out += (
                f'<text x="{right:g}" y="{first:g}" text-anchor="end" font-size="10" '
                f'fill="{colour.text}"{light}>{html(said.note)}</text>'
            )
        if said.below:
            out += (
                f'<text x="{middle:g}" y="{first + 14:g}" text-anchor="middle" font-size="10" '
                f'xml:space="preserve" fill="{colour.text}"{light}>{html(said.below)}</text>'
            )
        return f"<g><title>{html(self._hover(node))}</title>{out}</g>\n"

    def _hover(self, node: GraphNode) -> str:
        """Path and costs, which a browser shows beside the pointer."""
        costs = node.costs
        parts = [node.path or node.name]
        if costs.params:
            parts.append(f"{units.integer(costs.params)} parameters")
        if costs.macs:
            parts.append(f"{units.integer(costs.macs)} MACs")
        if costs.activation_bytes:
            parts.append(f"{units.nbytes(costs.activation_bytes)} of output")
        return ", ".join(parts)

    # -- colours

    def _status(self, node: GraphNode) -> str:
        return node.counterpart.status if node.counterpart else ""

    def _colour(self, node: GraphNode) -> colours.Colour:
        if node.counterpart is not None:
            return colours.STATUS[node.counterpart.status]
        if self.view.heat is None or node.kind in (g.INPUT, g.OUTPUT):
            return colours.of(node)
        value = cost(node, self.view.heat)
        if value is None:
            return colours.PLAIN
        return colours.heat(value / self.most if self.most else 0.0)

    def _most(self) -> float:
        """The largest cost of a closed box."""
        if self.view.heat is None:
            return 0.0
        closed = (self.graph.nodes[b.node] for b in self.drawing.boxes if b.inside < 0)
        return max((cost(node, self.view.heat) or 0.0 for node in closed), default=0.0)

    # -- lines

    def _lines(self) -> Iterator[str]:
        """Every edge; what several of them share is drawn once."""
        strokes: dict[str, None] = {}
        lanes: dict[tuple[int, int, str], _Way] = {}
        for line in self.drawing.lines:
            colour, dash = self._stroke(line)
            look = f'fill="none" stroke="{colour}" stroke-width="1.2"{dash}'
            lane, (before, *after) = self._pieces(line)
            for piece in (before, *after[1:]):
                strokes[f'<path d="{_rounded(piece)}" {look}/>\n'] = None
            for way in after[:1]:
                known = lanes.get((line.block, lane, look), way)
                lanes[line.block, lane, look] = [min(known[0], way[0]), max(known[1], way[1])]
            if self.graph.nodes[line.block].edges[line.edge].target != g.BORDER:
                x, y = line.points[-1]
                tip = f"M{x - 3.2:g} {y - 6:g}h6.4L{x:g} {y:g}z"
                strokes[f'<path d="{tip}" fill="{colour}"/>\n'] = None
        for (_, _, look), way in lanes.items():
            strokes[f'<path d="{_rounded(way)}" {look}/>\n'] = None
        return iter(strokes)

    def _stroke(self, line: Line) -> tuple[str, str]:
        """Colour and dashes of an edge: of two models those of what was added or removed."""
        edge = self.graph.nodes[line.block].edges[line.edge]
        ends = [self.graph.nodes[n] for n in (edge.source, edge.target) if n >= 0]
        statuses = set(map(self._status, ends))
        found = next((status for status in ("removed", "added") if status in statuses), "")
        dash = ' stroke-dasharray="4 2.5"' if found == "removed" else ""
        return (colours.STATUS[found].line if found else _LINE), dash

    def _pieces(self, line: Line) -> tuple[int, list[_Way]]:
        """The lane of a line, and its way to it, in it and from it; -1 and the whole without."""
        block = self.graph.nodes[line.block]
        points = list(line.points)
        if block.edges[line.edge].target != g.BORDER:
            points[-1] = points[-1][0], points[-1][1] - 4  # the tip begins there
        route = block.layout.routes[line.edge] if block.layout else None
        if route is None or route.lane < 0:
            return -1, [points]
        first = 2 if route.leave >= 0 else 0
        last = len(points) - (3 if route.arrive >= 0 else 1)
        (x, above), (_, below) = points[first], points[last]
        if below - above < 2 * _ROUND:
            return -1, [points]
        ends = (x, above + _ROUND), (x, below - _ROUND)
        return route.lane, [[*points[: first + 1], ends[0]], [*ends], [ends[1], *points[last:]]]

    # -- legend

    def _subtitle(self) -> str:
        """Class and costs of the model; of two models those of both."""
        node = self.graph.nodes[ROOT]
        other = node.counterpart.costs if node.counterpart else None
        sides = [*filter(None, (other,)), node.costs]
        parts = [node.label] if node.label != self.graph.name else []
        for noun, values in (
            ("parameters", [c.params for c in sides]),
            ("MACs", [c.macs for c in sides]),
        ):
            written = list(dict.fromkeys(map(units.si, values)))
            parts.append(f"{' -> '.join(written)} {noun}")
        return " \N{MIDDLE DOT} ".join(filter(None, parts))

    def _legend(self) -> Iterator[tuple[float, str]]:
        """Right end and drawing of each entry."""
        if self.view.heat is not None and not self.compares:
            yield self._scale(self.view.heat)
            return
        x = 0.0
        for title, colour in self._entries():
            end = x + 16 + boxes.width(title, 10) + 14
            yield (
                end,
                _Rect(x, -9, 11, 11, 3).drawn(colour)
                + f'<text x="{x + 16:g}" y="0">{html(title)}</text>\n',
            )
            x = end

    def _entries(self) -> list[tuple[str, colours.Colour]]:
        closed = [self.graph.nodes[b.node] for b in self.drawing.boxes if b.inside < 0]
        if self.compares:
            seen = {self._status(node) for node in closed}
            return [(f"{boxes.MARKS[s]} {s}", c) for s, c in colours.STATUS.items() if s in seen]
        groups = {colours.group(node) for node in closed}
        return [(name, colour) for name, colour in colours.GROUPS.items() if name in groups]

    def _scale(self, heat: str) -> tuple[float, str]:
        steps = "".join(
            f'<rect x="{4 * n}" y="-9" width="4.5" height="10" fill="{colours.heat(n / 29).fill}"/>'
            for n in range(30)
        )
        title = f"{_HEAT_TITLES[heat]}: 0 to {_amount(heat, self.most)} in one box"
        return 130 + boxes.width(title, 10), f'{steps}<text x="128" y="0">{html(title)}</text>\n'


_HEAT_TITLES = {
    "macs": "MACs",
    "params": "parameters",
    "activations": "activation bytes",
    "element-ops": "element operations",
    "field": "receptive field in pixels",
}


def cost(node: GraphNode, heat: str) -> float | None:
    """A cost of a node; None where it is not known."""
    costs = node.costs
    if heat == "field":
        sizes = [size for size in costs.field or () if size is not None]
        return float(max(sizes)) if sizes else None
    return float(
        {
            "macs": costs.macs,
            "params": costs.params,
            "activations": costs.activation_bytes,
            "element-ops": costs.element_ops,
        }[heat]
    )


def _amount(heat: str, value: float) -> str:
    if heat == "activations":
        return units.nbytes(int(value))
    return units.si(int(value)) if heat != "field" else units.integer(int(value))


class _Rect(NamedTuple):
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    radius: float

    def drawn(self, colour: colours.Colour, *, dashed: bool = False) -> str:
        """The rectangle in SVG."""
        dash = ' stroke-dasharray="4 2.5"' if dashed else ""
        return (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" '
            f'height="{self.height:g}" rx="{self.radius:g}" fill="{colour.fill}" '
            f'stroke="{colour.line}"{dash}/>\n'
        )


def _rounded(points: Sequence[tuple[float, float]]) -> str:
    """A path along corners that are rounded as far as their sides are long enough."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_ROUND, _distance(before, at) / 2, _distance(at, after) / 2)
        (x0, y0), (x1, y1) = _toward(at, before, radius), _toward(at, after, radius)
        parts.append(f"L{x0:g} {y0:g}Q{at[0]:g} {at[1]:g} {x1:g} {y1:g}")
    parts.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(parts)


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _toward(a: tuple[float, float], b: tuple[float, float], length: float) -> tuple[float, float]:
    whole = _distance(a, b)
    share = length / whole if whole else 0.0
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
