"""Where names of points stand, so that none covers another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

_LEAST = 3  # characters of a name that is cut
_NEAR = 2  # distances of `Grid.reach` for names that need not be there


class Box(NamedTuple):
    """A rectangle; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Return True if they have more than an edge in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Return True if all of it is in another one."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


class Named(NamedTuple):
    """A point that has a name: where it is, how large the name is, whether it should have it."""

    x: float
    y: float
    width: float
    height: float
    first: bool = False


class Grid(NamedTuple):
    """How names are laid out.

    Attributes:
        room: in which all names stand.
        gap: between a point and its name, to the side and upwards.
        reach: how far names may be from their points, in gaps, near ones first; those that need
            not be there are near.
        whole: whether a place is a whole number, as that of a character is.
        most: how many names there are of points that need none.
        apart: distance between two names beside each other.
    """

    room: Box
    gap: tuple[float, float]
    reach: tuple[float, ...] = (1.0, 2.0)
    whole: bool = False
    most: int = 40
    apart: float = 0.0


def placed(names: Sequence[Named], grid: Grid, taken: Sequence[Box] = ()) -> list[Box | None]:
    """Where each name stands, None for those without room.

    Greedy: names that should be there (`first`), then the others take the first free place beside
    their point. No name covers another one, and none covers what is `taken`; one that should be
    there may cover that where nothing else is free, but for the points of such names.

    Args:
        names: in the order in which they matter.
        grid: the room, and distances in it.
        taken: symbols and lines.
    """
    found: list[Box | None] = [None] * len(names)
    kept = [_around(one, grid.gap) for one in names if one.first]
    here: list[Box] = []
    others = 0
    for place in sorted(range(len(names)), key=lambda i: not names[i].first):
        one = names[place]
        if others == grid.most and not one.first:
            break
        box = _free(one, grid, here, kept, taken)
        if box is not None:
            found[place] = box
            here.append(box._replace(left=box.left - grid.apart, right=box.right + grid.apart))
            others += not one.first
    return found


def _free(
    one: Named, grid: Grid, here: Sequence[Box], kept: Sequence[Box], taken: Sequence[Box]
) -> Box | None:
    """The first place that covers nothing; for a name that should be there, no name and point."""
    boxes = (box for box in _places(one, grid) if box.within(grid.room))
    free = [box for box in boxes if not _meets(box, here) and not _meets(box, kept)]
    clear = (box for box in free if not _meets(box, taken))
    return next(clear, free[0] if free and one.first else None)


def staircase(spots: Sequence[tuple[float, float]], width: float = 1.0) -> Iterator[Box]:
    """What a line covers that goes on level and rises at the next place.

    Args:
        spots: left lower corners of the places that it leads through.
        width: of the line.
    """
    for (x0, y0), (x1, y1) in pairwise(spots):
        yield Box(min(x0, x1), y0, max(x0, x1), y0 + width)
        yield Box(x1, min(y0, y1), x1 + width, max(y0, y1) + width)


def along(
    spots: Sequence[tuple[float, float]], width: float, *, level: bool = False
) -> Iterator[Box]:
    """What a line covers.

    Args:
        spots: left lower corners of the places that it leads through.
        width: of the line, and about that of each box.
        level: whether it goes on level and rises or falls at the next place.
    """
    if level:
        yield from staircase(spots, width)
        return
    for (x0, y0), (x1, y1) in pairwise(spots):
        parts = max(ceil(max(abs(x1 - x0), abs(y1 - y0)) / width), 1)
        for part in range(parts + 1):
            x, y = x0 + (x1 - x0) * part / parts, y0 + (y1 - y0) * part / parts
            yield Box(x, y, x + width, y + width)


def within(name: str, room: int) -> str:
    """A name in so many characters: of a long one the end if it is numbered, "" for no room."""
    if len(name) <= room:
        return name
    if room < _LEAST:
        return ""
    numbered = any(letter.isdigit() for letter in name[-2:])
    return f"…{name[1 - room :]}" if numbered else f"{name[: room - 1]}…"


def _around(one: Named, gap: tuple[float, float]) -> Box:
    """The symbol of a point."""
    dx, dy = gap[0] / 2, gap[1] / 2
    return Box(one.x - dx, one.y - dy, one.x + dx, one.y + dy)


def _meets(box: Box, others: Sequence[Box]) -> bool:
    return any(box.meets(other) for other in others)


def _places(one: Named, grid: Grid) -> Iterator[Box]:
    """Above left first, where a front of the best has nothing; then all around, near and far."""
    x, y, w, h = one[:4]
    for times in grid.reach if one.first else grid.reach[:_NEAR]:
        dx, dy = grid.gap[0] * times, grid.gap[1] * times
        for left, bottom in (
            (x - dx - w, y + dy / 2),
            (x + dx, y - h / 2),
            (x - dx - w, y - h / 2),
            (x - w / 2, y + dy),
            (x - w / 2, y - dy - h),
            (x + dx, y + dy / 2),
            (x + dx, y - dy / 2 - h),
            (x - dx - w, y - dy / 2 - h),
        ):
            if grid.whole:
                yield Box(floor(left), floor(bottom), floor(left) + w, floor(bottom) + h)
            else:
                yield Box(left, bottom, left + w, bottom + h)
