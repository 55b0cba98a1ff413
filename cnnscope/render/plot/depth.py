"""Layers along an axis: their order, and the parts of the model that they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from cnnscope.records.summary import LayerRow
from cnnscope.render.plot.chart import Axis, Band

_DEEPEST = 6  # levels that may hold everything
_MOST = 0.6  # of all layers in one part, which is shown by its own parts then
_FEW = 3  # layers that a part of such a part has, on average


def layers(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Layers that compute something, in the order in which they run."""
    return [row for row in rows if row.leaf and not row.minor and not row.fails]


def axis(rows: Sequence[LayerRow]) -> Axis:
    """The axis of layers, numbered from 1."""
    return Axis("layer", unit="whole", ends=(0.5, len(rows) + 0.5))


def bands(rows: Sequence[LayerRow]) -> tuple[Band, ...]:
    """Neighbours in one part of the model, () where there is one part.

    A part that holds most layers gives way to its own parts, if these hold several layers each;
    one that holds all of them in any case.
    """
    names = [_part(row, 1) for row in rows]
    for level in range(2, _DEEPEST):
        outer, count = max(Counter(names).items(), key=lambda one: one[1], default=("", 0))
        inner = [_part(row, level) for row, name in zip(rows, names, strict=True) if name == outer]
        several = len(_runs(inner)) * _FEW <= count
        if count < len(rows) and (count <= _MOST * len(rows) or not several):
            break
        names = [_part(r, level) if n == outer else n for r, n in zip(rows, names, strict=True)]
    found = _runs(names)
    if len(found) < 2:
        return ()
    return tuple(Band(first + 0.5, last + 1.5, _shown(name)) for name, first, last in found)


def _part(row: LayerRow, level: int) -> str:
    """The first names of a path."""
    return ".".join(row.path.split(".")[:level])


def _runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Equal neighbours: their name, the first and the last place."""
    places = groupby(range(len(names)), key=names.__getitem__)
    runs = [(name, list(inside)) for name, inside in places]
    return [(name, inside[0], inside[-1]) for name, inside in runs]


def _shown(name: str) -> str:
    """The last name of a path that is not a number alone, and what follows it."""
    parts = name.split(".")
    first = next((i for i in reversed(range(len(parts))) if not parts[i].isdigit()), 0)
    return ".".join(parts[first:])
