"""A drawing as polygons, lines and text, which every file format writes as they are.

Coordinates and sizes are points of a printer (1/72 inch), y grows downward. Curves are short
straight lines, so that no format has to know more than these three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import cos, hypot, pi, sin
from typing import NamedTuple

from cnnscope.render.figure.fonts import Font

Point = tuple[float, float]
INK = "#1f2933"
SOFT = "#52606d"
_TIP, _WING = 3.6, 1.5  # length of an arrow's head, and half of its width
_STEPS = 6  # straight pieces of a round corner


class Polygon(NamedTuple):
    """A closed area; `fill` and `line` are colours ("#rrggbb"), or "" for none."""

    points: tuple[Point, ...]
    fill: str = ""
    line: str = INK
    width: float = 0.5
    dash: bool = False


class Polyline(NamedTuple):
    """An open line."""

    points: tuple[Point, ...]
    line: str = INK
    width: float = 0.5
    dash: bool = False


class Text(NamedTuple):
    """One line of text, whose baseline begins, has its middle or ends at a place.

    `room` is the width that it may take where it is written in a box (0: any); a writer whose font
    is wider makes it smaller. `turned` text runs upward.
    """

    x: float
    y: float
    text: str
    size: float = 7.0
    anchor: str = "middle"
    bold: bool = False
    colour: str = INK
    room: float = 0.0
    turned: bool = False


Item = Polygon | Polyline | Text


class Box(NamedTuple):
    """The rectangle that something takes."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2

    def meets(self, other: Box, slack: float = 0.01) -> bool:
        """Return True if both cover a common area."""
        across = min(self.right, other.right) - max(self.x, other.x)
        down = min(self.bottom, other.bottom) - max(self.y, other.y)
        return across > slack and down > slack


class Scene(NamedTuple):
    """Items in the order in which they are drawn.

    `parts` are the rectangles of the things that the figure shows (a stack of sheets, a box), by
    which a layout can be examined.
    """

    width: float
    height: float
    items: tuple[Item, ...]
    font: Font
    parts: tuple[Box, ...] = ()

    def moved(self, x: float, y: float, scale: float = 1.0) -> Scene:
        """The same elsewhere, and larger or smaller."""

        def at(point: Point) -> Point:
            return x + scale * point[0], y + scale * point[1]

        items = tuple(_moved(item, at, scale) for item in self.items)
        parts = tuple(Box(*at((b.x, b.y)), scale * b.width, scale * b.height) for b in self.parts)
        return Scene(x + scale * self.width, y + scale * self.height, items, self.font, parts)

    def scaled(self, share: float) -> Scene:
        """The same so much larger, text and all."""
        return self.moved(0.0, 0.0, share)

    def texts(self) -> Iterator[Text]:
        """Every text."""
        return (item for item in self.items if isinstance(item, Text))


class Page(NamedTuple):
    """The greatest width and height of a drawing."""

    width: float
    height: float

    def share(self, scene: Scene) -> float:
        """How much smaller a drawing has to become, at most 1."""
        return min(1.0, self.width / scene.width, self.height / scene.height)

    def fitted(self, scene: Scene) -> Scene:
        """A drawing made smaller, text and all, as far as it has to be."""
        share = self.share(scene)
        return scene if share == 1 else scene.scaled(share)


def _moved(item: Item, at: Callable[[Point], Point], scale: float) -> Item:
    if isinstance(item, Text):
        x, y = at((item.x, item.y))
        return item._replace(x=x, y=y, size=scale * item.size, room=scale * item.room)
    points = tuple(at(point) for point in item.points)
    return item._replace(points=points, width=max(scale * item.width, 0.25))


def box_of(text: Text, font: Font) -> Box:
    """The rectangle that a text takes."""
    wide = font.width(text.text, text.size, bold=text.bold)
    left = {"start": 0.0, "middle": -wide / 2, "end": -wide}[text.anchor]
    if text.turned:
        return Box(text.x - 0.75 * text.size, text.y - wide - left, text.size, wide)
    return Box(text.x + left, text.y - 0.75 * text.size, wide, text.size)


def bounds(items: Iterable[Item], font: Font) -> Box:
    """The smallest rectangle around all items."""
    corners: list[Point] = []
    for item in items:
        if isinstance(item, Text):
            box = box_of(item, font)
            corners += [(box.x, box.y), (box.right, box.bottom)]
        else:
            corners += item.points
    left, top = (min(c[i] for c in corners) for i in (0, 1))
    right, bottom = (max(c[i] for c in corners) for i in (0, 1))
    return Box(left, top, right - left, bottom - top)


def framed(
    items: Sequence[Item], font: Font, parts: Sequence[Box] = (), margin: float = 2.0
) -> Scene:
    """A scene of items wherever they are, with a margin around them."""
    around = bounds(items, font)
    scene = Scene(around.right, around.bottom, tuple(items), font, tuple(parts))
    moved = scene.moved(margin - around.x, margin - around.y)
    return moved._replace(width=around.width + 2 * margin, height=around.height + 2 * margin)


# ------------------------------------------------------------------------------------ shapes


def rectangle(
    box: Box, fill: str = "", line: str = INK, *, radius: float = 0.0, width: float = 0.5
) -> Polygon:
    """A rectangle, with round corners if it has a radius."""
    x, y, right, bottom = box.x, box.y, box.right, box.bottom
    corners = [(x, y), (right, y), (right, bottom), (x, bottom)]
    if radius:
        top = (x + right) / 2, y
        way = rounded([top, *corners[1:], corners[0], top], radius)
        return Polygon(tuple(way), fill, line, width)
    return Polygon(tuple(corners), fill, line, width)


def circle(middle: Point, radius: float, fill: str = "", line: str = INK) -> Polygon:
    """A circle."""
    turns = (2 * pi * n / 24 for n in range(24))
    points = ((middle[0] + radius * cos(t), middle[1] + radius * sin(t)) for t in turns)
    return Polygon(tuple(points), fill, line)


def arrow(
    points: Sequence[Point], line: str = INK, *, width: float = 0.5, dash: bool = False,
    radius: float = 0.0, size: float = 1.0,
) -> Iterator[Item]:  # fmt: skip
    """A line with a head at its end, which ends exactly there."""
    (x0, y0), (x1, y1) = points[-2:]
    length = hypot(x1 - x0, y1 - y0) or 1.0
    u, v = (x1 - x0) / length, (y1 - y0) / length
    tip, wing = min(_TIP * size, length), _WING * size
    back = x1 - tip * u, y1 - tip * v
    way = rounded([*points[:-1], back], radius) if radius else [*points[:-1], back]
    yield Polyline(tuple(way), line, width, dash)
    head = ((back[0] - wing * v, back[1] + wing * u), (back[0] + wing * v, back[1] - wing * u))
    yield Polygon(((x1, y1), *head), line, "")


def rounded(points: Sequence[Point], radius: float) -> list[Point]:
    """A polyline whose corners are round, as far as its sides are long enough."""
    way = [points[0]]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        room = min(radius, _distance(before, at) / 2, _distance(at, after) / 2)
        (x0, y0), (x1, y1) = _toward(at, before, room), _toward(at, after, room)
        for step in range(_STEPS + 1):  # a quadratic Bezier curve with `at` as its control point
            t = step / _STEPS
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
            way.append((a * x0 + b * at[0] + c * x1, a * y0 + b * at[1] + c * y1))
    return [*way, points[-1]]


def _distance(a: Point, b: Point) -> float:
    return hypot(a[0] - b[0], a[1] - b[1])


def _toward(a: Point, b: Point, length: float) -> Point:
    whole = _distance(a, b)
    share = length / whole if whole else 0.0
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
