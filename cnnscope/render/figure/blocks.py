"""The style "blocks": feature maps as boxes in perspective, as VGG is often drawn.

A box is as high and as deep as the resolution, and as thick as the channels, both by a power that
keeps small ones visible. Maps of one resolution stand close together above its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from cnnscope.records import figure as f
from cnnscope.records.figure import Flow, Step
from cnnscope.render.figure import palette, words
from cnnscope.render.figure.fonts import Font
from cnnscope.render.figure.legend import legend
from cnnscope.render.figure.scene import (
    INK,
    SOFT,
    Box,
    Item,
    Point,
    Polygon,
    Scene,
    Text,
    arrow,
    bounds,
    circle,
    framed,
)

_HIGHEST, _LEAST = 96.0, 7.0
_POWER = 0.55  # of the resolution
_THICK = 0.95  # times the root of the channels
_THICKEST, _THINNEST = 50.0, 1.6
_DEPTH = 0.32  # of the width, in both directions of the page
_CLOSE, _GAP = 1.6, 11.0  # between maps of one resolution, and of two
_ROUND = 4.6  # radius of a join
_TEXT = 6.5
_LINE = 7.6
_LANE = 6.0
_SCALES = (1.0, 0.8, 0.6, 0.5)
_TIGHT = 0.55  # scale below which the size of a square is one number
_TRIES = (*((False, scale) for scale in _SCALES), *((True, scale) for scale in _SCALES))


class _Solid(NamedTuple):
    """A step with its box: thickness, height and depth; `x` is the left edge of its front."""

    step: Step
    thick: float
    high: float
    deep: float
    captions: tuple[str, ...]
    x: float = 0.0

    @property
    def join(self) -> bool:
        return self.step.kind == f.JOIN

    @property
    def around(self) -> Box:
        """The rectangle around it, whose middle is at 0."""
        return Box(self.x, -self.top, self.thick + self.deep, 2 * self.top)

    @property
    def top(self) -> float:
        """How far it reaches above the middle."""
        return (self.high + self.deep) / 2

    @property
    def front(self) -> float:
        return self.x + self.thick / 2

    @property
    def lid(self) -> Point:
        """The middle of its upper face."""
        return self.front + self.deep / 2, self.deep / 2 - self.top


def blocks(flow: Flow, merged: Flow, font: Font, most: float) -> Scene:
    """Draw feature maps as boxes; paths that skip some are lines above.

    Args:
        flow: the network.
        merged: the same with equal steps in a row as one, for where all do not fit.
        font: of the captions.
        most: width that it shall have; it becomes wider where that is too little.
    """
    made = []
    for short, scale in _TRIES:
        scene = _Row(merged if short else flow, font, scale, most).scene()
        if scene.width <= most:
            return scene
        made.append(scene)
    return made[-1]


class _Row:
    def __init__(self, flow: Flow, font: Font, scale: float, most: float) -> None:
        self.flow, self.font, self.scale, self.most = flow, font, scale, most
        self.before: dict[int, list[int]] = {}
        for edge in flow.edges:
            self.before.setdefault(edge.target, []).append(edge.source)
        self.axes = max(len(step.positions) for step in flow.steps)
        sides = [words.sides(step, self.axes) or (1, 1) for step in flow.steps]
        self.largest = max(map(max, sides))
        self.solids = self._placed([self._solid(step) for step in flow.steps])

    def scene(self) -> Scene:
        """The drawing."""
        items: list[Item] = []
        for number, solid in enumerate(self.solids):
            items += self._arrow_to(number)
            items += _drawn(solid)
        items += self._captions()
        items += self._arcs()
        below = max(solid.top for solid in self.solids) + 3 * _LINE + 8
        left = self.solids[0].x
        right = left + self.most - 8
        colours = list(legend(self.flow.steps, self.font, below, x=left, most=right - left))
        items += colours
        items += self._signs(bounds(colours, self.font).bottom + 4, left)
        parts = [solid.around for solid in self.solids]
        return framed(items, self.font, parts)

    # -- boxes

    def _solid(self, step: Step) -> _Solid:
        if step.kind == f.JOIN:
            return _Solid(step, 2 * _ROUND, 2 * _ROUND, 0.0, ())
        thick = _THICK * self.scale * (step.channels or 1) ** 0.5
        thick = min(max(thick, _THINNEST), _THICKEST * self.scale)
        high, wide = words.sides(step, self.axes) or (1, 1)
        captions = ["?" if step.channels is None else str(step.channels)]
        if step.kind == f.INPUT and step.label != "input":
            captions.append(words.operation(step))
        if step.times > 1:
            captions.append(f"{words.TIMES} {step.times}")
        return _Solid(step, thick, self._side(high), _DEPTH * self._side(wide), tuple(captions))

    def _side(self, positions: int) -> float:
        if not self.largest or positions <= 1:
            return _LEAST
        return max(_HIGHEST * float((positions / self.largest) ** _POWER), _LEAST)

    def _placed(self, solids: Sequence[_Solid]) -> list[_Solid]:
        """Boxes from left to right, none over another's captions."""
        found: list[_Solid] = []
        for number, solid in enumerate(solids):
            if not found:
                found.append(solid)
                continue
            before = found[-1]
            x = before.x + before.thick + self._gap(number, before, solid)
            room = before.front + (self._caption(before) + self._caption(solid)) / 2 + 2
            found.append(solid._replace(x=max(x, room - solid.thick / 2)))
        return self._apart(found)

    def _resolution(self, solids: Sequence[_Solid]) -> str:
        """What is written below maps of one resolution; nothing of a single position, or of joins.

        A join stands between boxes, whose captions would meet its own.
        """
        positions = solids[0].step.positions
        if not positions or all(solid.join for solid in solids):
            return ""
        shown = words.squared if self.scale < _TIGHT else words.by
        return shown(positions)

    def _gap(self, number: int, before: _Solid, solid: _Solid) -> float:
        """Between a box and the next: close where one map becomes another of its size."""
        same = before.step.positions == solid.step.positions
        if solid.join or before.join:
            return before.deep + 5.0
        if same and self.before.get(number) == [number - 1] and before.step.kind != f.INPUT:
            return _CLOSE if solid.step.positions else 6.0
        return max(before.deep, 2.0) + _GAP * (
            self.scale if self.scale < _TIGHT else max(self.scale, 0.7)
        )

    def _caption(self, solid: _Solid) -> float:
        return max((self.font.width(one, _TEXT) for one in solid.captions), default=0.0)

    def _apart(self, solids: Sequence[_Solid]) -> list[_Solid]:
        """Move maps of one resolution to the right as far as the sizes below need room."""
        found: list[_Solid] = []
        end = float("-inf")
        shift = 0.0
        for _, group in groupby(solids, key=lambda one: one.step.positions):
            members = list(group)
            label = self._resolution(members)
            wide = self.font.width(label, _TEXT, bold=True)
            middle = (members[0].x + members[-1].x + members[-1].thick) / 2
            if label:
                shift += max(0.0, end + 4 - (middle + shift - wide / 2))
                end = middle + shift + wide / 2
            found += [one._replace(x=one.x + shift) for one in members]
        return found

    # -- captions and lines

    def _captions(self) -> Iterator[Text]:
        for _, group in groupby(self.solids, key=lambda one: one.step.positions):
            members = list(group)
            under = max(one.top for one in members)
            lines = max(len(one.captions) for one in members)
            for one in members:
                for line, text in enumerate(one.captions):
                    yield Text(one.front, under + 8 + line * _LINE, text, _TEXT, colour=SOFT)
            label = self._resolution(members)
            if label:
                middle = (members[0].x + members[-1].x + members[-1].thick) / 2
                yield Text(middle, under + 9 + lines * _LINE, label, _TEXT, bold=True)

    def _arrow_to(self, number: int) -> Iterator[Item]:
        """From the step before, where there is room between both."""
        if number - 1 not in self.before.get(number, ()):
            return
        before, solid = self.solids[number - 1], self.solids[number]
        begin = before.x + before.thick + before.deep / 2
        if solid.x - begin > 4.5:
            yield from arrow(((begin, 0.0), (solid.x, 0.0)), SOFT, size=0.8)

    def _signs(self, y: float, x: float) -> Iterator[Item]:
        """What the signs of joins mean."""
        joins = {words.sign(s): words.joined(s) for s in self.flow.steps if s.kind == f.JOIN}
        left = x
        for sign, name in joins.items():
            wide = 12 + self.font.width(name, _TEXT)
            if left > x and left + wide > x + self.most - 8:
                left, y = x, y + 11
            yield circle((left + 3.6, y + 3), 3.6, "#ffffff", INK)
            yield Text(left + 3.6, y + 5.0, sign, 5.6, bold=True)
            yield Text(left + 10, y + 5.4, name, _TEXT, "start", colour=SOFT)
            left += wide + 10

    def _arcs(self) -> Iterator[Item]:
        """Lines above the boxes, for what is read of further back."""
        spans = [(e.source, e.target) for e in self.flow.edges if e.source != e.target - 1]
        lanes = _lanes(spans)
        for source, target in spans:
            one, two = self.solids[source], self.solids[target]
            over = max(solid.top for solid in self.solids[source : target + 1])
            y = -over - 6 - _LANE * lanes[source, target]
            begin, end = one.lid, two.lid
            way = (begin, (begin[0], y), (end[0], y), end)
            yield from arrow(way, SOFT, width=0.6, radius=3.0, size=0.9)


def _lanes(spans: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], int]:
    """A lane for each span, the lower the shorter; spans of one lane do not overlap."""
    found: dict[tuple[int, int], int] = {}
    for span in sorted(spans, key=lambda one: one[1] - one[0]):
        taken = {lane for (a, b), lane in found.items() if a <= span[1] and span[0] <= b}
        found[span] = next(n for n in range(len(spans) + 1) if n not in taken)
    return found


def _drawn(solid: _Solid) -> Iterator[Item]:
    """Front, top and right face."""
    tint = palette.of(solid.step)
    if solid.join:
        middle = solid.x + solid.thick / 2, 0.0
        yield circle(middle, _ROUND, "#ffffff", INK)
        yield Text(middle[0], 2.4, words.sign(solid.step), 7.0, bold=True)
        return
    x, right = solid.x, solid.x + solid.thick
    bottom, top, deep = solid.top, solid.top - solid.high, solid.deep
    faces: tuple[tuple[tuple[Point, ...], float], ...] = (
        (((x, top), (x + deep, top - deep), (right + deep, top - deep), (right, top)), 1.06),
        (((right, top), (right + deep, top - deep), (right + deep, bottom - deep),
          (right, bottom)), 0.86),
        (((x, top), (right, top), (right, bottom), (x, bottom)), 1.0),
    )  # fmt: skip
    for points, light in faces:
        yield Polygon(points, _shaded(tint.fill, light), tint.line, 0.45)


def _shaded(colour: str, light: float) -> str:
    parts = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return "#{:02x}{:02x}{:02x}".format(*(min(255, round(part * light)) for part in parts))
