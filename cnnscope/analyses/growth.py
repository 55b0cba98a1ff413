"""What the receptive fields of the rows come to: how they grow, and which layers still gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import structs

from cnnscope.records import AxisField, LayerRow

Axes = tuple[AxisField, ...]


def largest(rows: tuple[LayerRow, ...]) -> Axes | None:
    """The largest field of positions, what only depends on the whole image left out."""
    local = [row.field for row in rows if row.field and None not in _local(row.field)]
    return max(local, key=_extent, default=None)


def largest_regular(rows: Sequence[LayerRow]) -> LayerRow | None:
    """The last layer of the largest field that is alike for images of any size.

    Its units are told apart along every axis, each axis a dimension of its output.
    """
    regular = [row for row in rows if row.leaf and not row.minor and row.field and _regular(row)]
    return max(reversed(regular), key=lambda row: _extent(row.field or ()), default=None)


def _regular(row: LayerRow) -> bool:
    axes = row.field or ()
    units = Counter(axis.units for axis in axes)
    return (
        all(a.local_size is not None and a.units > 1 and not a.explicit for a in axes)
        and bool(row.output_shapes)
        and units <= Counter(row.output_shapes[0])
    )


def exceeds_input_at(rows: tuple[LayerRow, ...]) -> str:
    """The first layer whose units see more than the input along every axis, "" if none does.

    A mean of everything is left out: every network ends in one.
    """
    return next(
        (
            row.path
            for row in rows
            if row.leaf
            and row.field
            and all(size is not None for size in _local(row.field))
            and all((a.local_size or 0) > a.input_size for a in row.field)
        ),
        "",
    )


def covers_input_at(rows: tuple[LayerRow, ...]) -> str:
    """The first layer every unit of which sees the whole image, "" if there is none."""
    return next(
        (
            row.path
            for row in rows
            if row.leaf and not row.minor and row.field and _covers_input(row.field)
        ),
        "",
    )


def _covers_input(axes: Axes) -> bool:
    """Whether every unit sees the whole image, borders and padding considered."""
    return all(a.clipped[0] >= a.input_size for a in axes)


def unproductive(read: Axes | None) -> bool:
    """Whether a layer that reads such fields gains nothing from sliding.

    True where the image is not larger than what the shortest path has seen already, along every
    axis (Richter et al., "Should You Go Deeper?", 2021, section 3).
    """
    return bool(read) and all(
        a.min_size is not None and a.input_size <= a.min_size for a in read or ()
    )


def different(rows: Sequence[LayerRow], most: int) -> list[LayerRow]:
    """The last row of every different field, at most so many: evenly, the first and the last kept.

    Args:
        rows: in execution order.
        most: at least 2.
    """
    last = {seen(row): index for index, row in enumerate(rows)}
    kept = [rows[index] for index in sorted(last.values())]
    if len(kept) <= most:
        return kept
    return [kept[round(i * (len(kept) - 1) / (most - 1))] for i in range(most)]


def seen(row: LayerRow) -> Axes | None:
    """A row's field without its shortest path, which nobody can measure."""
    return row.field and tuple(structs.replace(a, min_size=None) for a in row.field)


def _extent(axes: Axes) -> int:
    return sum(axis.local_size or 0 for axis in axes)


def _local(axes: Axes) -> list[int | None]:
    return [a.local_size for a in axes]
