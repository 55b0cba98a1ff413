"""Receptive-field growth: largest field, where it exceeds the input, unproductive layers."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from cnnscope.records.summary import AxisField, LayerRow

Axes = tuple[AxisField, ...]


def largest(rows: tuple[LayerRow, ...]) -> Axes | None:
    """The largest field, each axis by itself.

    A layer that sees all along every axis is left out while others see less: a mean of everything
    says nothing of the layers before it. Along one axis, all of it is as much as the image is
    large, or the largest field there if that is larger.
    """
    fields = [row.field for row in rows if row.field]
    local = [axes for axes in fields if any(size is not None for size in _local(axes))]
    if not local:
        return fields[-1] if fields else None
    most = [
        max(max(a.local_size or 0, a.input_size) for a in column)
        for column in zip(*local, strict=True)
    ]

    def extent(axes: Axes) -> tuple[int, int]:
        sizes = _local(axes)
        known = (m if size is None else size for size, m in zip(sizes, most, strict=True))
        return sum(known), sizes.count(None)

    return max(local, key=extent)


def largest_regular(rows: Sequence[LayerRow]) -> LayerRow | None:
    """The last layer of the largest field that is alike for images of any size.

    Its units are distinguished along every axis, each axis a dimension of its output.
    """
    regular = [row for row in rows if row.leaf and not row.minor and row.field and _regular(row)]
    return max(reversed(regular), key=lambda row: _extent(row.field or ()), default=None)


def _regular(row: LayerRow) -> bool:
    axes = row.field or ()
    units = tuple(axis.units for axis in axes)
    shape = row.output_shapes[0] if row.output_shapes else ()
    side_by_side = any(shape[i : i + len(units)] == units for i in range(len(shape)))
    known = all(a.local_size is not None and a.units > 1 and not a.explicit for a in axes)
    return known and side_by_side  # windows and their tokens may be as many as an axis has units


def exceeds_input_at(rows: tuple[LayerRow, ...]) -> str:
    """The first layer whose units see more than the input along every axis, "" if none does.

    All of an axis counts as more, but a mean of everything is left out: every network ends in one.
    So is a layer of one unit, such as the pool of a gate, where one of several units sees more.
    """
    found = [row for row in rows if row.leaf and row.field and _exceeds(row.field)]
    several = (row for row in found if any(axis.units > 1 for axis in row.field or ()))
    return next((row.path for row in (*several, *found)), "")


def _exceeds(axes: Axes) -> bool:
    known = [a for a in axes if a.local_size is not None]
    return bool(known) and all((a.local_size or 0) > a.input_size for a in known)


def covers_input_at(rows: tuple[LayerRow, ...]) -> str:
    """The layer from which on every unit of every layer sees the whole image, "" if there is none.

    A mean that only a gate, a second output or a condition reads is no such layer.
    """
    first = ""
    for row in reversed(
        [r for r in rows if r.leaf and not r.minor and (r.field or r.field_unknown)]
    ):
        if row.field is None or not _covers_input(row.field):
            break
        first = row.path
    return first


def _covers_input(axes: Axes) -> bool:
    """Return True if every unit sees the whole image, borders and padding considered."""
    return all(a.clipped[0] >= a.input_size for a in axes)


def unproductive(read: Axes | None) -> bool:
    """Return True if a layer that reads such fields gains nothing from sliding.

    True where the image is not larger than what the shortest path has seen already, along every
    axis (Richter et al., "Should You Go Deeper?", 2021, section 3). An axis all of which is seen
    anyway has nothing to gain.
    """
    known = [a for a in read or () if a.local_size is not None]
    return bool(known) and all(a.input_size <= (a.min_size or 0) for a in known)


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
    """Field of a row without its shortest path, which cannot be measured."""
    return row.field and tuple(structs.replace(a, min_size=None) for a in row.field)


def _extent(axes: Axes) -> int:
    return sum(axis.local_size or 0 for axis in axes)


def _local(axes: Axes) -> list[int | None]:
    return [a.local_size for a in axes]
