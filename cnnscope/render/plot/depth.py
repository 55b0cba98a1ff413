"""Layers along an axis: their order, and the parts of the model that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cnnscope.records.summary import LayerRow
from cnnscope.render.plot.chart import Axis, Band

_DEEPEST = 6  # levels that may hold everything


def layers(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Layers that compute something, in the order in which they run."""
    return [row for row in rows if row.leaf and not row.minor and not row.fails]


def axis(rows: Sequence[LayerRow]) -> Axis:
    """The axis of layers, numbered from 1."""
    return Axis("layer", unit="whole", ends=(0.5, len(rows) + 0.5))


def bands(rows: Sequence[LayerRow]) -> tuple[Band, ...]:
    """Neighbours in one part of the model: of the outermost level with several parts."""
    for level in range(1, _DEEPEST):
        names = [".".join(row.path.split(".")[:level]) for row in rows]
        if len(set(names)) > 1:
            break
    places = groupby(range(len(rows)), key=names.__getitem__) if rows else ()
    runs = [(name, list(inside)) for name, inside in places]
    return tuple(Band(inside[0] + 0.5, inside[-1] + 1.5, name) for name, inside in runs)
