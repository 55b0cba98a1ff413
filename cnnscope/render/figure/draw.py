"""Draw what a figure shows in its style; several models above or beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from cnnscope.errors import RequestError
from cnnscope.records import figure as f
from cnnscope.records.figure import FigureContents
from cnnscope.render.figure.blocks import blocks
from cnnscope.render.figure.fonts import Font
from cnnscope.render.figure.graph import graph
from cnnscope.render.figure.lenet import lenet
from cnnscope.render.figure.scene import Box, Item, Page, Scene, Text, box_of, framed
from cnnscope.render.figure.unet import unet
from cnnscope.text import printable

_MARGIN = 2.0
_NAME = 8.5  # size of a model's name
_ILLEGIBLE = 1.5  # points: smaller text says nothing at all
_NARROW = 1.8  # points: a layer's share of a width that leaves text legible is larger
SMALL = 4.5  # points: smaller text cannot be read in print


def draw(contents: FigureContents, font: Font, page: Page) -> Scene:
    """Draw a figure.

    Args:
        contents: what it shows.
        font: of its text.
        page: its greatest width and height.

    Raises:
        RequestError: the style leaves so little room for so many layers that nobody could read it.
    """
    if contents.style == f.GRAPH:
        return graph(contents, font, page)
    for flow in contents.merged:
        _check_room(len(flow.steps) <= page.width / _NARROW, contents.style, flow.name)
    scene = page.fitted(_drawn(contents, font, page.width))
    names = ", ".join(flow.name for flow in contents.flows)
    _check_room(smallest(scene) >= _ILLEGIBLE, contents.style, names)
    return scene


def _check_room(enough: bool, style: str, name: str) -> None:
    if not enough:
        raise RequestError(
            f"{printable(name, 60)}: style {style} leaves no room for text that can be read, as it "
            "draws so many layers: take a larger --max-width, or --style graph, which draws once "
            "what repeats"
        )


def _drawn(contents: FigureContents, font: Font, most: float) -> Scene:
    if len(contents.flows) == 1:
        return _one(contents, 0, font, most)
    inside = most - 2 * _MARGIN
    scenes = [_one(contents, number, font, inside) for number in range(len(contents.flows))]
    narrow = [Page(inside, scene.height).fitted(scene) for scene in scenes]
    return _stacked(narrow, [flow.name for flow in contents.flows], font)


def _one(contents: FigureContents, number: int, font: Font, most: float) -> Scene:
    flow, merged = contents.flows[number], contents.merged[number]
    if contents.style == f.UNET:
        full, short = contents.shapes[number]
        return unet(((flow, full), (merged, short)), font, most)
    if contents.style == f.LENET:
        return lenet(flow, merged, font, most)
    return blocks(flow, merged, font, most)


def _stacked(scenes: Sequence[Scene], names: Sequence[str], font: Font) -> Scene:
    """Drawings one below the other, each under the name of its model."""
    items: list[Item] = []
    parts: list[Box] = []
    y = 0.0
    for scene, name in zip(scenes, names, strict=True):
        title = Text(2.0, y + _NAME, printable(name, 60), _NAME, "start", bold=True)
        moved = scene.moved(0.0, box_of(title, font).bottom + 4)
        items += [title, *moved.items]
        parts += moved.parts
        y = moved.height + 12
    return framed(items, font, parts, margin=_MARGIN)


def smallest(scene: Scene) -> float:
    """Size of the smallest text of a drawing in points."""
    return min((text.size for text in scene.texts()), default=SMALL)
