"""The style "lenet": feature maps as stacked sheets (LeCun et al. 1998, figure 2).

A stack has as many sheets as the map has channels, up to twelve; beyond that a sheet more stands
for more and more of them. Sheets grow with the resolution, more slowly than it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, log2
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
    Polyline,
    Scene,
    Text,
    arrow,
    framed,
    rectangle,
)
from cnnscope.text import printable

_LARGEST, _LEAST = 64.0, 7.0  # sides of sheets
_POWER = 0.6  # of the resolution
_SHEETS = 12  # that stand for a channel each
_OFFSET = 2.3  # between sheets
_GAP = 13.0  # between stacks
_TEXT = 6.5
_LINE = 8.0  # height of a line of text
_BAR, _SLANT = 4.0, 0.28  # of a vector
_BAR_UNIT, _BAR_LONGEST = 9.0, 86.4  # length for a doubling of its channels, and of the longest
_LETTERS = {"conv": "C", "max pool": "P", "average pool": "S", "linear": "F"}
_SCALES = (1.0, 0.9, 0.8, 0.7)


class _Stack(NamedTuple):
    """A step with its captions, and where it stands: `x` is its left edge, its middle is at 0."""

    step: Step
    name: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    sheets: int
    sides: Point  # width and height of a sheet; of a bar its own
    x: float = 0.0

    @property
    def offset(self) -> float:
        return min(_OFFSET, 0.12 * max(self.sides)) * min(1.0, 14.0 / self.sheets)

    @property
    def width(self) -> float:
        if not self.step.positions:
            return self.sides[0] + self.sides[1] * _SLANT
        return self.sides[0] + (self.sheets - 1) * self.offset

    @property
    def height(self) -> float:
        spread = 0.0 if not self.step.positions else (self.sheets - 1) * self.offset
        return self.sides[1] + spread

    @property
    def front(self) -> Box:
        """The sheet in front; of a bar all of it."""
        if not self.step.positions:
            return Box(self.x, -self.height / 2, self.width, self.height)
        left, top = self.x + self.width - self.sides[0], self.height / 2 - self.sides[1]
        return Box(left, top, *self.sides)

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def lenet(flow: Flow, merged: Flow, font: Font, most: float) -> Scene:
    """Draw a chain of feature maps.

    Args:
        flow: a chain of steps.
        merged: the same with equal steps in a row as one, for where all do not fit.
        font: of the captions.
        most: width that it shall have; it becomes wider where that is too little.
    """
    for chain, scale, tight in (
        (flow, 1.0, False), (flow, 0.85, False), (flow, 0.75, True),
        *((merged, scale, False) for scale in _SCALES), (merged, 0.75, True),
    ):  # fmt: skip
        row = _placed(_stacks(chain, scale, tight=tight), font)
        if _spread([row], font) <= most - 4:
            return _scene([row], font, most)
    return _scene(_balanced(_stacks(merged, 0.85), font, most - 4), font, most)


# ----------------------------------------------------------------------------------- stacks


def _stacks(flow: Flow, scale: float, *, tight: bool = False) -> list[_Stack]:
    axes = max(len(step.positions) for step in flow.steps)
    most = _Most(
        axes,
        max(max(words.sides(step, axes) or (1, 1)) for step in flow.steps),
        max((step.channels or 1 for step in flow.steps if not step.positions), default=1),
    )
    found, number = [], 0
    for at, step in enumerate(flow.steps):
        if step.kind == f.INPUT:
            name = step.label if step.label != "input" else "input"
        else:
            name = _name(step, number + 1)
            number += step.times
        ends = at in flow.ends and step.kind != f.INPUT and not step.positions
        above = ("output" if ends else printable(name, 20), words.size(step))
        sides = _sides(step, most, scale)
        found.append(
            _Stack(step, name, above, tuple(_below(step, tight=tight)), _sheets(step), sides)
        )
    return found


def _name(step: Step, number: int) -> str:
    kind = step.layer.kind if step.layer is not None else ""
    letter = _LETTERS.get(kind, "B" if step.kind == f.BLOCK else "U" if "conv" in kind else "L")
    last = f"\N{EN DASH}{letter}{number + step.times - 1}" if step.times > 1 else ""
    return f"{letter}{number}{last}"


def _below(step: Step, *, tight: bool) -> Iterator[str]:
    """The operation that makes a map, in short lines."""
    if step.kind == f.INPUT:
        return
    what = words.operation(step)
    lines = what.split(" ", 1) if tight and what[0].isdigit() else [what]
    if step.layer is not None:
        lines += filter(None, [_stride(step), words.more(step.layer)])
    if step.times > 1:
        lines[-1] = f"{lines[-1]} {words.TIMES} {step.times}"
    yield from lines
    if words.after(step):
        yield words.after(step)


def _stride(step: Step) -> str:
    """The stride of a convolution, and of a pool whose windows overlap."""
    geometry = step.layer.geometry if step.layer is not None else None
    if step.layer is None or geometry is None or geometry.stride == geometry.kernel_size:
        return ""
    shown = words.strides(step.layer).strip(f"/{words.TIMES}")
    return f"stride {shown}" if shown else ""


def _sheets(step: Step) -> int:
    channels = step.channels or 1
    more = ceil(1.6 * log2(channels / _SHEETS)) if channels > _SHEETS else 0
    return min(channels, _SHEETS) + more


class _Most(NamedTuple):
    """What is largest in a network: axes and sides of its maps, channels of its vectors."""

    axes: int
    side: int
    channels: int


def _sides(step: Step, most: _Most, scale: float) -> Point:
    """Width and height of a sheet, or of the bar of a vector."""
    sides = words.sides(step, most.axes)
    if sides is None:
        unit = min(_BAR_UNIT, _BAR_LONGEST / log2(most.channels + 1)) * scale
        return _BAR, max(unit * log2((step.channels or 1) + 1), 12.0)
    if len(step.positions) == most.axes == 1:
        return max(_LARGEST * scale * (sides[0] / most.side) ** _POWER, _LEAST), _LEAST
    high, wide = (max(_LARGEST * scale * (side / most.side) ** _POWER, _LEAST) for side in sides)
    return wide, high


def _margin(stack: _Stack, font: Font) -> float:
    """How far the captions of a stack reach beyond it on one side."""
    return max(0.0, (_caption(stack, font) - stack.width) / 2)


def _caption(stack: _Stack, font: Font) -> float:
    lines = (*stack.above, *stack.below)
    return max((font.width(line, _TEXT, bold=True) for line in lines), default=0.0)


def _reach(stack: _Stack, font: Font) -> float:
    return stack.width + _margin(stack, font)


def _placed(stacks: Sequence[_Stack], font: Font) -> list[_Stack]:
    """Stacks beside each other, so far apart that no captions meet."""
    found: list[_Stack] = []
    for stack in stacks:
        if not found:
            found.append(stack)
            continue
        before = found[-1]
        right = before.x + before.width
        caption = before.middle + (_caption(before, font) + _caption(stack, font)) / 2 + 4
        found.append(stack._replace(x=max(right + _GAP, caption - stack.width / 2)))
    return found


def _spread(rows: Sequence[Sequence[_Stack]], font: Font) -> float:
    """Width of the widest row, captions included."""
    return max(row[-1].x + _reach(row[-1], font) + _margin(row[0], font) for row in rows)


def _balanced(stacks: Sequence[_Stack], font: Font, most: float) -> list[list[_Stack]]:
    """As few rows as possible, of about one length."""
    rows = _rows(stacks, font, most)
    for share in (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6):
        tried = _rows(stacks, font, most * share)
        if len(tried) > len(rows):
            break
        rows = tried
    return rows


def _rows(stacks: Sequence[_Stack], font: Font, most: float) -> list[list[_Stack]]:
    """Rows that are no wider than may be."""
    rows: list[list[_Stack]] = [[]]
    for stack in stacks:
        row = _placed([*(one._replace(x=0.0) for one in rows[-1]), stack], font)
        wide = row[-1].x + _reach(row[-1], font) + _margin(row[0], font) + 2 * _GAP
        if wide > most and rows[-1]:
            rows.append([stack])
        else:
            rows[-1] = row
    return rows


# ---------------------------------------------------------------------------------- drawing


def _scene(rows: Sequence[Sequence[_Stack]], font: Font, most: float) -> Scene:
    items: list[Item] = []
    parts: list[Box] = []
    y = 0.0
    for number, row in enumerate(rows):
        drawn = list(_row(row, font, first=not number, last=number == len(rows) - 1))
        scene = framed(drawn, font, [_around(stack) for stack in row])
        left = _margin(row[0], font)
        moved = scene.moved(-left if number else 0.0, y)
        items += moved.items
        parts += moved.parts
        y = moved.height + 6
    used = [stack.step for row in rows for stack in row]
    items += legend(used, font, y, most=most - 8)
    return framed(items, font, parts)


def _around(stack: _Stack) -> Box:
    return Box(stack.x, -stack.height / 2, stack.width, stack.height)


def _row(row: Sequence[_Stack], font: Font, *, first: bool, last: bool) -> Iterator[Item]:
    top = -max(stack.height for stack in row) / 2
    for stack in row:
        yield from _drawn(stack)
    for before, stack in pairwise(row):
        yield from _connected(before, stack)
    for stack in row:
        yield from _captions(stack, top)
    for wanted, x in (
        (not first, row[0].x - _margin(row[0], font) - 11),
        (not last, row[-1].x + _reach(row[-1], font) + 4),
    ):
        if wanted:  # a row goes on in the next one
            yield from arrow(((x, 0.0), (x + 7, 0.0)), SOFT, width=0.6)


def _drawn(stack: _Stack) -> Iterator[Item]:
    tint = palette.of(stack.step)
    if not stack.step.positions:
        x, top = stack.x, -stack.height / 2
        lean, bottom = stack.sides[1] * _SLANT, stack.height / 2
        yield Polygon(
            ((x, top), (x + _BAR, top), (x + _BAR + lean, bottom), (x + lean, bottom)),
            tint.fill, tint.line,
        )  # fmt: skip
        return
    for sheet in range(stack.sheets):
        left = stack.x + sheet * stack.offset
        top = -stack.height / 2 + sheet * stack.offset
        yield rectangle(Box(left, top, *stack.sides), tint.fill, tint.line, width=0.4)


def _connected(before: _Stack, stack: _Stack) -> Iterator[Item]:
    """The kernel with lines to what it makes; from all of a map to a vector."""
    if not stack.step.positions:
        yield from _fan(before, stack)
        return
    if not before.step.positions:
        return
    source, target = before.front, stack.front
    kernel = _kernel(before, stack)
    x = source.x + 0.66 * (source.width - kernel[0])
    y = source.y + 0.3 * (source.height - kernel[1])
    window = Box(x, y, *kernel)
    dot = Box(target.x + 0.32 * target.width - 0.9, target.y + 0.58 * target.height - 0.9, 1.8, 1.8)
    yield rectangle(window, "", INK, width=0.5)
    yield Polyline(((window.right, window.y), (dot.x, dot.y)), INK, 0.35)
    yield Polyline(((window.right, window.bottom), (dot.x, dot.bottom)), INK, 0.35)
    yield rectangle(dot, INK, "")


def _kernel(before: _Stack, stack: _Stack) -> Point:
    """Width and height of the kernel on the sheet that it slides over."""
    layer = stack.step.layer
    if layer is None and stack.step.inside:
        layer = stack.step.inside[0]
    geometry = layer.geometry if layer is not None else None
    kernel = geometry.kernel_size[-2:] if geometry is not None else ()
    wide, high = before.sides
    if len(kernel) != 2 or len(before.step.positions) < 2:
        share = min(1.0, kernel[0] / before.step.positions[-1]) if kernel else 0.25
        return min(max(share * wide, 3.0), wide), min(3.0, high)
    (rows, columns), (height, width) = kernel, before.step.positions[-2:]
    return (
        min(max(columns / width * wide, 3.0), wide),
        min(max(rows / height * high, 3.0), high),
    )


def _fan(before: _Stack, stack: _Stack) -> Iterator[Item]:
    lean = stack.sides[1] * _SLANT
    top, bottom = (stack.x, -stack.height / 2), (stack.x + lean, stack.height / 2)
    if before.step.positions:
        front = before.front
        begin = (front.right, front.y), (front.right, front.bottom)
    else:
        edge = before.x + _BAR
        begin = (edge, -before.height / 2), (edge + before.sides[1] * _SLANT, before.height / 2)
    for source, target in zip(begin, (top, bottom), strict=True):
        yield Polyline((source, target), SOFT, 0.35)


def _captions(stack: _Stack, top: float) -> Iterator[Text]:
    for line, text in enumerate(reversed(stack.above)):
        y = top - 4 - line * _LINE
        yield Text(stack.middle, y, text, _TEXT, bold=line == len(stack.above) - 1)
    for line, text in enumerate(stack.below):
        yield Text(stack.middle, -top + 9 + line * _LINE, text, _TEXT, colour=SOFT)
