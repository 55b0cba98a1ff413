"""A scene as an SVG file."""

from __future__ import annotations

from collections.abc import Iterator

from cnnscope.render.escaping import html
from cnnscope.render.figure.scene import Item, Point, Polyline, Scene, Text


def svg(scene: Scene, title: str) -> str:
    """Draw a scene as SVG; its sizes are points.

    Args:
        scene: what is drawn.
        title: what a screen reader says of it.
    """
    return "".join(_parts(scene, title))


def _parts(scene: Scene, title: str) -> Iterator[str]:
    wide, high = f"{scene.width:.1f}", f"{scene.height:.1f}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}pt" height="{high}pt" '
        f'viewBox="0 0 {wide} {high}" font-family="{html(scene.font.family)}" role="img" '
        f'aria-label="{html(title)}">\n<title>{html(title)}</title>\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n'
    )
    yield from map(_drawn, scene.items)
    yield "</svg>\n"


def _drawn(item: Item) -> str:
    if isinstance(item, Text):
        return _text(item)
    way = "L".join(map(_point, item.points))
    closed, fill = ("", "none") if isinstance(item, Polyline) else ("z", item.fill or "none")
    stroke = ""
    if item.line:
        dash = ' stroke-dasharray="2 1.5"' if item.dash else ""
        stroke = f' stroke="{item.line}" stroke-width="{item.width:g}"{dash}'
    return f'<path d="M{way}{closed}" fill="{fill}"{stroke} stroke-linejoin="round"/>\n'


def _point(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: Text) -> str:
    x, y = _number(text.x), _number(text.y)
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    bold = ' font-weight="700"' if text.bold else ""
    turned = f' transform="rotate(-90 {x} {y})"' if text.turned else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{_number(text.size)}"{anchor}{bold}{turned} '
        f'fill="{text.colour}">{html(text.text)}</text>\n'
    )
