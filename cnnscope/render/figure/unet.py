"""The style "unet": an encoder-decoder as a U (Ronneberger, Fischer, Brox 2015, figure 1).

Rows are levels of resolution; the data goes down at the left, along the bottom, and up at the
right. A map is a bar as high as its resolution and as wide as its channels, both by a power that
keeps small ones visible. What a skip brings to a concatenation is the white part of a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from cnnscope.records import figure as f
from cnnscope.records.figure import Flow, Skip, Step, Ushape
from cnnscope.render.figure import palette, words
from cnnscope.render.figure.fonts import Font
from cnnscope.render.figure.scene import (
    INK,
    SOFT,
    Box,
    Item,
    Point,
    Scene,
    Text,
    arrow,
    circle,
    framed,
    rectangle,
)

_HIGHEST, _LOWEST, _POWER = 84.0, 11.0, 0.6  # of bars, and of the resolution
_THIN, _THICK = 2.2, 0.32  # of a bar: its least width, and what the root of the channels adds
_GAP = 12.0  # between bars, which an arrow crosses
_ROWS = 13.0  # between the captions of a row and the row above
_TEXT, _SIZE = 6.5, 5.6  # of channels, of resolutions
_LINE = 7.2
_ASIDE = 3.0  # from the arrow that a caption stands beside
_SKIP = "#9aa5b1"
_SKIPPED = 16.0  # between both ends of a skip
_LEAST = 190.0  # width of a legend
_TRIES = ((False, 1.0), (False, 0.75), (True, 1.0), (True, 0.75))


class _Bar(NamedTuple):
    """A map of the trunk: the step that makes it, the part that a skip brings, and its captions.

    `reached` is the step whose arrow leads to it: of a concatenation behind an upsampling that is
    the upsampling.
    """

    step: Step
    reached: Step
    level: int
    places: tuple[int, ...]  # in the trunk
    parts: tuple[tuple[float, palette.Tint], ...]
    captions: tuple[str, ...] = ()
    aside: bool = False
    x: float = 0.0

    @property
    def width(self) -> float:
        return sum(wide for wide, _ in self.parts)

    @property
    def axis(self) -> float:
        return self.x + self.width / 2


def unet(flows: Sequence[tuple[Flow, Ushape]], font: Font, most: float) -> Scene:
    """Draw a U.

    Args:
        flows: the network with its shape, and the same with equal steps in a row as one, for
            where all do not fit.
        font: of the captions.
        most: width that it shall have; it becomes wider where that is too little.
    """
    made = []
    for short, scale in _TRIES:
        flow, shape = flows[short]
        scene = _U(flow, shape, font, scale, most).scene()
        if scene.width <= most:
            return scene
        made.append(scene)
    return made[-1]


class _U:
    def __init__(self, flow: Flow, shape: Ushape, font: Font, scale: float, most: float) -> None:
        self.flow, self.shape, self.font, self.most = flow, shape, font, most
        self.scale = scale
        sides = [max(step.positions[-2:]) for step in flow.steps if step.positions]
        self.largest = max(sides, default=1)
        self.skips = {skip.target: skip for skip in shape.skips}
        self.bars = self._placed(self._captioned(self._bars()))
        self.tops = self._tops()

    def scene(self) -> Scene:
        """The drawing."""
        boxes = [self._box(bar) for bar in self.bars]
        items: list[Item] = list(self._skips())
        for bar, box in zip(self.bars, boxes, strict=True):
            x = box.x
            for wide, tint in bar.parts:
                items.append(
                    rectangle(Box(x, box.y, wide, box.height), tint.fill, tint.line, width=0.45)
                )
                x += wide
        for one, two in pairwise(self.bars):
            items += self._arrow(one, two)
        for bar, box in zip(self.bars, boxes, strict=True):
            items += self._captions(bar, box)
        below, right = max(b.bottom for b in boxes), max(b.right for b in boxes)
        items += self._legend(below + 16, min(max(right, _LEAST), self.most - 6))
        return framed(items, self.font, boxes)

    # -- bars

    def _bars(self) -> list[_Bar]:
        """The maps; a join is one bar with the map before it."""
        found: list[_Bar] = []
        for place, (number, level) in enumerate(
            zip(self.shape.trunk, self.shape.levels, strict=True)
        ):
            step = self.flow.steps[number]
            before = found[-1] if found and found[-1].level == level else None
            if step.kind == f.JOIN and before is not None and len(before.places) == 1:
                found[-1] = _Bar(
                    step, before.reached, level, (place - 1, place), self._parts(step, before.step)
                )
            else:
                found.append(_Bar(step, step, level, (place,), self._parts(step, step)))
        return found

    def _parts(self, step: Step, before: Step) -> tuple[tuple[float, palette.Tint], ...]:
        """What a skip brings, in white, and what comes from the map before."""
        own, whole = before.channels or 1, step.channels or 1
        if step.family != "concatenate" or whole <= own:
            return ((self._wide(whole), palette.of(before)),)
        return (self._wide(whole - own), palette.PLAIN), (self._wide(own), palette.of(before))

    def _wide(self, channels: int | None) -> float:
        return (_THIN + _THICK * sqrt(channels or 1)) * max(self.scale, 0.75)

    def _captioned(self, bars: Sequence[_Bar]) -> list[_Bar]:
        """Channels of every bar, its repeats, and the resolution where it is another than before.

        The channels stand above the others, so that a number of times is not read as a factor of
        the channels beside it.
        """
        found: list[_Bar] = []
        for number, bar in enumerate(bars):
            before = bars[number - 1] if number else None
            step = bar.step
            lines = ["?" if step.channels is None else str(step.channels)]
            lines += [f"{words.TIMES} {step.times}"] if step.times > 1 else []
            same = before is not None and before.level == bar.level
            if before is None or not same or before.step.positions != step.positions:
                lines.append(words.squared(step.positions))
            after = bars[number + 1] if number + 1 < len(bars) else None
            falls = before is not None and before.level < bar.level
            rises = after is not None and after.level < bar.level
            found.append(bar._replace(captions=tuple(lines), aside=falls or rises))
        return found

    def _placed(self, bars: Sequence[_Bar]) -> list[_Bar]:
        """Bars from left to right; what is reached from above or below stands there."""
        found: list[_Bar] = []
        ends: dict[int, float] = {}  # right edge of each level, captions included
        for bar in bars:
            left, right = self._reach(bar)
            axis = left
            if found:
                before = found[-1]
                gap = _GAP * self.scale
                beside = before.x + before.width + gap + bar.width / 2
                axis = before.axis if before.level != bar.level else beside
                if bar.level in ends:
                    apart = 2.5 if before.level == bar.level else _SKIPPED
                    axis = max(axis, ends[bar.level] + apart + left)
                if before.level > bar.level and axis > before.axis:  # the arrow turns beside it
                    axis = max(axis, before.x + before.width + gap)
            found.append(bar._replace(x=axis - bar.width / 2))
            ends[bar.level] = axis + right
        return found

    def _reach(self, bar: _Bar) -> tuple[float, float]:
        """How far a bar and its captions reach to the left and to the right of its axis."""
        wide = max(
            self.font.width(line, _SIZE if number else _TEXT)
            for number, line in enumerate(bar.captions)
        )
        if bar.aside:
            return bar.width / 2, max(bar.width / 2, _ASIDE + wide)
        return max(bar.width, wide) / 2, max(bar.width, wide) / 2

    def _tops(self) -> dict[int, float]:
        """The upper edge of each level, by its highest bar."""
        y, tops = 0.0, {}
        for level in sorted({bar.level for bar in self.bars}):
            members = [bar for bar in self.bars if bar.level == level]
            y += _LINE * max(len(bar.captions) for bar in members) + _ROWS
            tops[level] = y
            y += max(map(self._high, members))
        return tops

    def _high(self, bar: _Bar) -> float:
        positions = bar.step.positions
        share = max(positions[-2:]) / self.largest if positions else 0.0
        return max(_HIGHEST * float(share**_POWER), _LOWEST)

    def _box(self, bar: _Bar) -> Box:
        level = max(self._high(one) for one in self.bars if one.level == bar.level)
        high = self._high(bar)
        return Box(bar.x, self.tops[bar.level] + (level - high) / 2, bar.width, high)

    # -- lines and captions

    def _arrow(self, one: _Bar, two: _Bar) -> Iterator[Item]:
        """From one map to the next, in the colour of the operation."""
        begin, end = self._box(one), self._box(two)
        colour = _colour(two.reached)
        if one.level == two.level:
            y = begin.middle[1]
            yield from arrow(((begin.right, y), (end.x, y)), colour, width=0.9)
        elif one.level < two.level:
            yield from self._down(begin, end, colour)
        else:
            yield from self._up(begin, end, colour)

    def _down(self, begin: Box, end: Box, colour: str) -> Iterator[Item]:
        way = ((begin.middle[0], begin.bottom), (end.middle[0], end.y))
        yield from arrow(way, colour, width=1.1)

    def _up(self, begin: Box, end: Box, colour: str) -> Iterator[Item]:
        """Straight up, or to the side and up where what is above stands further to the right."""
        x, y = begin.middle
        if abs(end.middle[0] - x) < 0.1:
            way: tuple[Point, ...] = ((x, begin.y), (x, end.bottom))
        else:
            way = ((begin.right, y), (end.middle[0], y), (end.middle[0], end.bottom))
        yield from arrow(way, colour, width=1.1)

    def _skips(self) -> Iterator[Item]:
        places = {n: bar for bar in self.bars for n in bar.places}
        trunk = {number: place for place, number in enumerate(self.shape.trunk)}
        for skip in self.shape.skips:
            one, two = places[trunk[skip.source]], places[trunk[skip.target]]
            yield from self._skip(skip, one, two)

    def _skip(self, skip: Skip, one: _Bar, two: _Bar) -> Iterator[Item]:
        """A wide arrow; behind the bars and higher where it passes some."""
        begin, end = self._box(one), self._box(two)
        x0, x1 = begin.right, end.x
        between = any(
            bar.level in (one.level, two.level) and x0 < bar.axis < x1 for bar in self.bars
        )
        low = max(begin.y, end.y)
        y = low + (min(begin.bottom, end.bottom) - low) * (0.22 if between else 0.5)
        yield from arrow(((x0, y), (x1, y)), _SKIP, width=1.8, size=1.5)
        middle = (x0 + x1) / 2, y
        if two.step.family == "add":
            yield circle((x1 - 5.5, y), 3.2, "#ffffff", INK)
            yield Text(x1 - 5.5, y + 2.0, "+", _TEXT, bold=True)
        if skip.gated:
            yield circle(middle, 4.0, "#ffffff", INK)
            yield Text(middle[0], y + 2.2, words.TIMES, 7.0, bold=True)
        elif skip.through:
            yield rectangle(Box(middle[0] - 3, y - 3, 6, 6), palette.CONVOLUTION.fill, INK)

    def _captions(self, bar: _Bar, box: Box) -> Iterator[Text]:
        x, anchor = (bar.axis + _ASIDE, "start") if bar.aside else (bar.axis, "middle")
        for number, line in enumerate(bar.captions):
            y = box.y - 2.4 - (len(bar.captions) - 1 - number) * _LINE
            size, colour = (_SIZE, SOFT) if number else (_TEXT, INK)
            yield Text(x, y, line, size, anchor, colour=colour)

    # -- legend

    def _legend(self, y: float, right: float) -> Iterator[Item]:
        left = x = self.bars[0].x
        for sample, name in self._entries():
            wide = 20 + self.font.width(name, _TEXT) + 12
            if x > left and x + wide - 12 > right:
                x, y = left, y + 11
            yield from sample(x, y)
            yield Text(x + 17, y + 2.3, name, _TEXT, "start", colour=SOFT)
            x += wide

    def _entries(self) -> Iterator[tuple[_Sample, str]]:
        """An arrow of each kind with what it does."""
        kinds: dict[tuple[int, str], tuple[str, set[str]]] = {}
        for one, two in pairwise(self.bars):
            turn = (two.level > one.level) - (two.level < one.level)
            name = _named(two.reached)
            kinds.setdefault((turn, name), (_colour(two.reached), set()))[1].add(
                words.after(two.reached)
            )
        for (turn, name), (colour, followed) in kinds.items():
            after = followed.pop() if len(followed) == 1 else ""
            yield _Sample(colour, turn), f"{name} + {after}" if after else name
        joins = {self.flow.steps[skip.target].family for skip in self.shape.skips}
        cropped = any(skip.cropped for skip in self.shape.skips)
        word = {"add": "skip, add", "concatenate": "skip, concatenate"}
        said = " or ".join(sorted(word[one] for one in joins))
        yield (
            _Sample(_SKIP, 0, 1.8),
            said.replace("skip,", "skip, crop and", 1) if cropped else said,
        )
        if any(skip.gated for skip in self.shape.skips):
            yield _Sample("", 0), "gate (attention)"
        elif any(skip.through for skip in self.shape.skips):
            yield _Sample("layers", 0), "layers on a skip"


class _Sample(NamedTuple):
    """An arrow as it is in the legend."""

    colour: str
    turn: int  # 1 down, -1 up, 0 to the right
    width: float = 0.9

    def __call__(self, x: float, y: float) -> Iterator[Item]:
        if not self.colour:
            yield circle((x + 8, y), 4.0, "#ffffff", INK)
            yield Text(x + 8, y + 2.2, words.TIMES, 7.0, bold=True)
        elif self.colour == "layers":
            yield rectangle(Box(x + 5, y - 3, 6, 6), palette.CONVOLUTION.fill, INK)
        elif self.turn:
            ends = ((x + 8, y - 4.5 * self.turn), (x + 8, y + 4.5 * self.turn))
            yield from arrow(ends, self.colour, width=1.1)
        else:
            size = 1.5 if self.width > 1 else 1.0
            yield from arrow(((x, y), (x + 13, y)), self.colour, width=self.width, size=size)


def _colour(step: Step) -> str:
    """Of an arrow: that of the operation's boxes, 1x1 convolutions apart."""
    geometry = step.layer.geometry if step.layer is not None else None
    if geometry is not None and palette.of(step) == palette.CONVOLUTION:
        return palette.ONE.line if set(geometry.kernel_size) == {1} else palette.CONVOLUTION.line
    return palette.of(step).line


def _named(step: Step) -> str:
    """The operation with its stride."""
    if step.layer is None:
        return words.operation(step)
    return ", ".join(filter(None, (words.operation(step), words.strides(step.layer))))
