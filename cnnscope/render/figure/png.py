"""A scene as a PNG file, drawn with Pillow."""

from __future__ import annotations

import io
from itertools import pairwise
from math import hypot
from typing import Any

from cnnscope.errors import RequestError
from cnnscope.render.figure.scene import Item, Point, Polyline, Scene, Text
from cnnscope.text import visible

DPI = 300  # of print
_FINER = 2  # times as large as it is, and then made smaller: that is what makes edges smooth
_MOST = 2**27  # pixels that are drawn
_DASH, _GAP = 2.0, 1.5  # points


def png(scene: Scene) -> bytes:
    """Draw a scene as PNG, at 300 pixels an inch.

    Raises:
        RequestError: the picture would be too large.
    """
    from PIL import Image, ImageDraw

    size = [round(side * DPI / 72) for side in (scene.width, scene.height)]
    if size[0] * size[1] * _FINER**2 > _MOST:
        raise RequestError(
            f"a picture of {size[0]:,} x {size[1]:,} pixels is too large to draw: give a smaller "
            "--max-width, or take .svg"
        )
    image = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), "white")
    brush = _Brush(ImageDraw.Draw(image), image, scene)
    for item in scene.items:
        brush.draw(item)
    made = io.BytesIO()
    image.resize(size, Image.Resampling.BOX).save(made, "PNG", optimize=True, dpi=(DPI, DPI))
    return made.getvalue()


class _Brush:
    def __init__(self, brush: Any, image: Any, scene: Scene) -> None:
        self.brush, self.image, self.font = brush, image, scene.font
        self.scale = _FINER * DPI / 72

    def draw(self, item: Item) -> None:
        """Draw one item."""
        if isinstance(item, Text):
            self._text(item)
            return
        points = [self._at(point) for point in item.points]
        if not isinstance(item, Polyline):
            if item.fill:
                self.brush.polygon(points, item.fill)
            points.append(points[0])
        if item.line:
            wide = max(1, round(item.width * self.scale))
            for piece in self._dashed(points) if item.dash else [points]:
                self.brush.line(piece, item.line, wide, joint="curve")

    def _at(self, point: Point) -> Point:
        return point[0] * self.scale, point[1] * self.scale

    def _dashed(self, points: list[Point]) -> list[list[Point]]:
        """The pieces of a line that are drawn."""
        on, off = _DASH * self.scale, _GAP * self.scale
        pieces: list[list[Point]] = []
        gone = 0.0
        for (x0, y0), (x1, y1) in pairwise(points):
            length = hypot(x1 - x0, y1 - y0)
            at = 0.0
            while at < length:
                phase = (gone + at) % (on + off)
                step = min((on if phase < on else on + off) - phase, length - at)
                if phase < on:
                    ends = at / length, (at + step) / length
                    pieces.append([(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in ends])
                at += max(step, 1e-6)
            gone += length
        return pieces

    def _text(self, text: Text) -> None:
        shown = visible(text.text)
        size = text.size * self.scale
        font = self.font.face(size, bold=text.bold)
        room = self.font.width(shown, size, bold=text.bold) * 1.02
        wide = float(font.getlength(shown))
        if wide > room:  # another font than the one that was measured
            font = self.font.face(size * room / wide, bold=text.bold)
            wide = float(font.getlength(shown))
        shift = {"start": 0.0, "middle": wide / 2, "end": wide}[text.anchor]
        x, y = self._at((text.x, text.y))
        if not text.turned:
            self.brush.text((x - shift, y), shown, text.colour, font, anchor="ls")
            return
        from PIL import Image, ImageDraw

        high = round(size * 1.5)
        mask = Image.new("L", (round(wide) + 2, high), 0)
        ImageDraw.Draw(mask).text((0, round(size)), shown, 255, font, anchor="ls")
        turned = mask.rotate(90, expand=True)
        corner = round(x - size), round(y + shift - turned.height)
        self.image.paste(Image.new("RGB", turned.size, text.colour), corner, turned)
