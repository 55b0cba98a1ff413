"""From a trace to the reports of `cnnscope rf`: every layer's field, or one unit's pixels."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cnnscope.analysis import growth, layers, receptive_field
from cnnscope.analysis.notes import notes
from cnnscope.errors import RequestError
from cnnscope.records.rf import FieldReport, UnitAxis, UnitReport
from cnnscope.records.summary import AxisField, Field, LayerRow, UnitMap
from cnnscope.records.trace import Trace


def field_report(trace: Trace) -> FieldReport:
    """Report the growth of the receptive field, layer by layer in execution order.

    Raises:
        RequestError: the model's input has no spatial axes.
    """
    if not receptive_field.spatial_axes(trace):
        raise RequestError(
            f"{trace.source.name}: its input has no axes that a layer slides over, so no "
            "layer has a receptive field; cnnscope summary has its other numbers"
        )
    rows = layers.with_fields(trace)
    shown, blocks = _with_blocks(rows)
    return FieldReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=shown,
        exceeds_input_at=growth.exceeds_input_at(rows),
        covers_input_at=growth.covers_input_at(rows),
        unproductive=tuple(row.path for row in shown if row.unproductive),
        unknown=tuple(row.path for row in shown if row.field_unknown),
        notes=(*notes(trace), *receptive_field.notes(trace)),
        blocks=blocks,
    )


def _with_blocks(
    rows: Sequence[LayerRow],
) -> tuple[tuple[LayerRow, ...], tuple[LayerRow, ...]]:
    """The layers that have a field, and the modules around them."""
    shown = [r for r in rows if r.leaf and not r.minor and (r.field or r.field_unknown)]
    around: set[int] = set()
    for row in shown:
        parent = row.parent
        while parent >= 0 and parent not in around:
            around.add(parent)
            parent = rows[parent].parent
    places = {index: place for place, index in enumerate(sorted(around))}

    def placed(row: LayerRow) -> LayerRow:
        return msgspec.structs.replace(row, parent=places.get(row.parent, -1))

    return tuple(map(placed, shown)), tuple(placed(rows[index]) for index in places)


def unit_report(trace: Trace, layer: str, unit: Sequence[int] | None = None) -> UnitReport:
    """The input pixels that one unit of a layer's output sees.

    Args:
        trace: of the model.
        layer: dotted path, as `cnnscope summary` shows it.
        unit: one index per axis; the centre one if left out.

    Raises:
        RequestError: there is no such layer or unit, or its field is not known.
    """
    fields = receptive_field.fields(trace)
    row = layers.find(layers.with_fields(trace), layer)
    field = fields[row.tensor] if row.tensor >= 0 else None
    if field is None or field.unknown:
        reason = "sees nothing of the input"
        if field is not None:
            reason = f"has a field that is not known: {field.reason}"
        raise RequestError(f"{layer}: {reason}")
    counts = [axis.units or 1 for axis in field.axes]
    chosen = [count // 2 for count in counts] if unit is None else list(unit)
    _check(layer, chosen, counts)
    return UnitReport(
        trace.source, trace.input_specs, trace.device, row, _axes(field, chosen),
        all(map(_of_all, field.maps, field.axes)),
        notes=receptive_field.notes(trace),
    )  # fmt: skip


def _of_all(units: UnitMap | None, axis: AxisField) -> bool:
    """Return True if every unit depends on all of an axis, beside a local field or alone."""
    return units is None or (axis.size is None and axis.local_size is not None)


def _check(layer: str, unit: Sequence[int], counts: Sequence[int]) -> None:
    size = "x".join(map(str, counts))
    if len(unit) != len(counts):
        raise RequestError(f"unit: {layer} has {size} units; give {len(counts)} indices")
    if any(not 0 <= u < count for u, count in zip(unit, counts, strict=True)):
        text = ",".join(map(str, unit))
        raise RequestError(f"unit {text}: {layer} has {size} units, counted from 0")


def _axes(field: Field, unit: Sequence[int]) -> tuple[UnitAxis, ...]:
    """Each axis; where only some see all of the image, that is what is shown of these."""
    some = any(axis.size is not None for axis in field.axes)
    return tuple(
        _axis(None if some and axis.size is None and not axis.explicit else units, index, axis)
        for units, index, axis in zip(field.maps, unit, field.axes, strict=True)
    )


def _axis(units: UnitMap | None, index: int, axis: AxisField) -> UnitAxis:
    size = axis.input_size
    if units is None:
        return UnitAxis(index, (0, size - 1), (0, size - 1), (size - 1) / 2, size)
    first, last = units.unclipped(index)
    return UnitAxis(
        index, (first, last), (units.lo[index], units.hi[index]), (first + last) / 2, size
    )
