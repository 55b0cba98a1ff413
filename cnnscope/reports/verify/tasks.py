"""Layers that are measured, and the units and canvases that their fields ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.records.summary import AxisField, Field, LayerRow, UnitMap

if TYPE_CHECKING:
    from cnnscope.measure import gradient

UNITS = 3  # neighbouring units measured, at the least
_MOST_UNITS = 17


class Task(NamedTuple):
    """A layer to be measured."""

    row: LayerRow
    field: Field
    target: gradient.Target

    @property
    def axes(self) -> tuple[AxisField, ...]:
        """Its field along each axis."""
        return self.field.axes


def regular(field: Field, axis: int) -> bool:
    """Return True if units repeat along an axis, so that those of any canvas are known."""
    units = field.maps[axis]
    return units is not None and bool(units.first)


def groups(tasks: Sequence[Task], axes: Iterable[int]) -> Iterator[list[Task]]:
    """Tasks that share a canvas, small ones first."""

    def most(task: Task) -> int:
        return max((needed(task, a) for a in axes if regular(task.field, a)), default=0)

    queue = sorted(tasks, key=most)
    while queue:
        group = [t for t in queue if most(t) <= 1.5 * most(queue[0])]
        queue = queue[len(group) :]
        yield group


def neighbours(units: UnitMap) -> int:
    """Number of neighbouring units to measure: a period of them and one more."""
    return min(max(UNITS, len(units.first) + 1), _MOST_UNITS)


def needed(task: Task, axis: int) -> int:
    """Pixels for some neighbouring units and their fields, with room on both sides."""
    units = task.field.maps[axis]
    assert units is not None  # noqa: S101  only regular ones are asked
    stride = -(-units.step // len(units.first))
    extent = max(units.last) - min(units.first) + 1
    return max(extent, 1) + (neighbours(units) + 1) * stride + 2 * (2 * stride + 8)


def interval(first: int, last: int) -> tuple[int, int]:
    """First and last pixel; [0, -1] where none is seen."""
    return (first, last) if first <= last else (0, -1)
