"""A graph as a PNG file: the elements that `svg.py` writes, drawn with Pillow.

What is drawn is read from the SVG itself, so that there is one drawing and not two. An element or a
command of a path that is not known here is an error, and no picture with a hole.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # of our own text, which names no entities

from PIL import Image, ImageColor, ImageDraw, ImageFont

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

_SCALE = 2  # pixels for one of the SVG's
_MOST = 2**27  # pixels of a picture
_STEPS = 6  # straight pieces of a round corner
# Files of the faces that the SVG names, as far as a machine has them: regular, bold.
_FACES = (
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("arial.ttf", "arialbd.ttf"),
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
)
Point = tuple[float, float]


def png(svg: str) -> bytes:
    """Draw an SVG of `cnnscope.render.graph.svg`.

    Args:
        svg: the whole file.

    Raises:
        RequestError: the picture would be too large.
    """
    root = ET.fromstring(svg)  # noqa: S314  our own
    width, height = (int(float(root.attrib[name])) for name in ("width", "height"))
    if width * height * _SCALE**2 > _MOST:
        raise RequestError(
            f"a picture of {width * _SCALE:,} x {height * _SCALE:,} pixels is too large to draw: "
            "show fewer levels, as in --depth 2, or take --format svg"
        )
    image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
    _Brush(image, (width, height)).children(root, (0.0, 0.0), {})
    made = io.BytesIO()
    image.save(made, "PNG", optimize=True)
    return made.getvalue()


class _Brush:
    def __init__(self, image: Image.Image, size: Point) -> None:
        self.draw, self.size = ImageDraw.Draw(image, "RGBA"), size

    def children(self, parent: ET.Element, at: Point, given: dict[str, str]) -> None:
        """Draw what is in an element, moved by `at`, with the attributes around it."""
        for element in parent:
            name = element.tag.rpartition("}")[2]
            if name != "title":
                getattr(self, f"_{name}")(element, at, {**given, **element.attrib})

    def _g(self, element: ET.Element, at: Point, given: dict[str, str]) -> None:
        moved = re.fullmatch(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
        x, y = map(float, moved.groups()) if moved else (0.0, 0.0)
        given.pop("transform", None)
        self.children(element, (at[0] + x, at[1] + y), given)

    def _rect(self, element: ET.Element, at: Point, given: dict[str, str]) -> None:
        x, y = (float(element.get(name, 0)) + move for name, move in zip("xy", at, strict=True))
        width, height = (
            whole if element.attrib[name] == "100%" else float(element.attrib[name])
            for name, whole in zip(("width", "height"), self.size, strict=True)
        )
        corners = [_SCALE * value for value in (x, y, x + width, y + height)]
        radius = min(float(given.get("rx", 0)), width / 2, height / 2) * _SCALE
        line = _colour(given.get("stroke"))
        self.draw.rounded_rectangle(
            corners, radius, _colour(given.get("fill", "#000000")),
            line, _SCALE if line else 0,
        )  # fmt: skip

    def _path(self, element: ET.Element, at: Point, given: dict[str, str]) -> None:
        for points in _polylines(element.attrib["d"]):
            moved = [(_SCALE * (x + at[0]), _SCALE * (y + at[1])) for x, y in points]
            fill, line = _colour(given.get("fill", "#000000")), _colour(given.get("stroke"))
            if fill:
                self.draw.polygon(moved, fill)
            if line:
                wide = round(_SCALE * float(given.get("stroke-width", 1)))
                self.draw.line(moved, line, wide, joint="curve")

    def _text(self, element: ET.Element, at: Point, given: dict[str, str]) -> None:
        """Pieces of text one after the other, around or behind their place."""
        pieces = [(element.text or "", given)]
        pieces += [(piece.text or "", {**given, **piece.attrib}) for piece in element]
        found = [(text, look, _font(look)) for text, look in pieces if text]
        gaps = [_SCALE * float(look.get("dx", 0)) for _, look, _ in found]
        wide = [font.getlength(text) for text, _, font in found]
        x, y = _SCALE * (float(element.get("x", 0)) + at[0]), _SCALE * (float(given["y"]) + at[1])
        x -= (sum(wide) + sum(gaps)) / 2 if given.get("text-anchor") == "middle" else 0
        for (text, look, font), gap, width in zip(found, gaps, wide, strict=True):
            colour = _colour(look.get("fill", "#000000"), float(look.get("fill-opacity", 1)))
            self.draw.text((x + gap, y), text, colour, font, anchor="ls")
            x += gap + width


def _colour(text: str | None, opacity: float = 1.0) -> tuple[int, ...] | None:
    if text is None or text == "none":
        return None
    return (*ImageColor.getrgb(text)[:3], round(255 * opacity))


def _font(look: dict[str, str]) -> FreeTypeFont | BitmapFont:
    return _face(look.get("font-weight") == "700", _SCALE * float(look.get("font-size", 11)))


@cache
def _face(bold: bool, size: float) -> FreeTypeFont | BitmapFont:
    for names in _FACES:
        try:
            return ImageFont.truetype(names[bold], size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _polylines(path: str) -> Iterator[Sequence[Point]]:
    """Points of each piece of a path; curves are a few straight lines.

    Raises:
        ValueError: a command that is not known here.
    """
    points: list[Point] = []
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        n = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", numbers)]
        if command == "M":
            if points:
                yield points
            points = [(n[0], n[1])]
        elif command == "L":
            points.append((n[0], n[1]))
        elif command == "h":
            points.append((points[-1][0] + n[0], points[-1][1]))
        elif command == "Q":
            points += _curve(points[-1], (n[0], n[1]), (n[2], n[3]))
        elif command == "z":
            points.append(points[0])
        else:
            raise ValueError(f"{command} in a path: {path}")
    yield points


def _curve(a: Point, b: Point, c: Point) -> Iterator[Point]:
    """Points on a quadratic Bezier curve from a to c, drawn towards b."""
    for step in range(1, _STEPS + 1):
        t = step / _STEPS
        u = 1 - t
        weights = u * u, 2 * u * t, t * t
        x, y = (sum(w * p[k] for w, p in zip(weights, (a, b, c), strict=True)) for k in (0, 1))
        yield x, y
