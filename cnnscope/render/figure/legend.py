"""What the colours of a figure mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnscope.records import figure as f
from cnnscope.records.figure import Step
from cnnscope.render.figure import palette, words
from cnnscope.render.figure.fonts import Font
from cnnscope.render.figure.scene import SOFT, Box, Item, Text, rectangle

TEXT = 6.5
_SIDE = 6.0
_NAMED = 3  # classes of blocks that are named


def legend(
    steps: Sequence[Step], font: Font, y: float, *, most: float = 480.0, x: float = 2.0
) -> Iterator[Item]:
    """A square and a name for each colour that is used, in rows no wider than `most`."""
    left = x
    for tint, name in entries(steps):
        wide = _SIDE + 3 + font.width(name, TEXT) + 10
        if left > x and left + wide > x + most:
            left, y = x, y + 10
        yield rectangle(Box(left, y, _SIDE, _SIDE), tint.fill, tint.line)
        yield Text(left + _SIDE + 3, y + 5.4, name, TEXT, "start", colour=SOFT)
        left += wide


def entries(steps: Sequence[Step]) -> list[tuple[palette.Tint, str]]:
    """Each colour that is used, with what it stands for."""
    found = []
    for tint in palette.TINTS:
        mine = [s for s in steps if s.kind != f.JOIN and palette.of(s) == tint]
        if mine:
            found.append((tint, _name(tint, mine)))
    return found


def _name(tint: palette.Tint, steps: Sequence[Step]) -> str:
    """The operation, with the activation behind it where all have the same; classes of blocks."""
    if tint == palette.BLOCK:
        labels = list(dict.fromkeys(words.operation(step) for step in steps))
        return ", ".join(labels) if len(labels) <= _NAMED else tint.name
    if tint == palette.NORM:
        labels = list(dict.fromkeys(words.operation(step) for step in steps))
        return ", ".join(labels) if len(labels) <= _NAMED else tint.name
    followed = {words.after(step) for step in steps}
    shared = followed.pop() if len(followed) == 1 else ""
    return f"{tint.name} + {shared}" if shared else tint.name
