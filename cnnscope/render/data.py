"""Reports as JSON, the summary as CSV: raw integers in base units (elements, bytes, operations)."""

import inspect
import io

import msgspec

from cnnscope.records import LayerRow, ModelReport, Shape
from cnnscope.render.escaping import CsvWriter

CSV_COLUMNS = (
    "path", "depth", "kind", "operation", "call", "input_shapes", "output_shapes",
    "kernel_size", "stride", "padding", "dilation", "groups",
    "params", "trainable_params", "buffers", "macs", "flops", "element_ops",
    "activation_bytes", "field", "field_local", "field_min", "field_stride", "field_padding",
    "unknown_ops", "minor",
)  # fmt: skip


def to_json(report: object) -> str:
    """The whole of any report; the schema of the summary's is `summary.schema.json`."""
    encoded = msgspec.json.encode(report)
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def schema() -> bytes:
    """The JSON Schema of the report."""
    found = msgspec.json.schema(ModelReport)
    for record in found["$defs"].values():  # Python from 3.13 on strips docstrings of indentation
        if "description" in record:
            record["description"] = inspect.cleandoc(record["description"])
    encoded = msgspec.json.encode(found, order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def to_csv(report: ModelReport) -> str:
    """One line per row of the report, blocks and what is inside them alike (see `depth`)."""
    out = io.StringIO()
    writer = CsvWriter(out)
    writer.writerow(CSV_COLUMNS)
    for row in report.layers:
        writer.writerow([_csv_cell(row, name) for name in CSV_COLUMNS])
    return out.getvalue()


def _csv_cell(row: LayerRow, name: str) -> str | int:
    if name == "flops":
        return 2 * row.macs
    if name in ("input_shapes", "output_shapes"):
        return ";".join(map(_joined, getattr(row, name)))
    if name in ("kernel_size", "stride", "padding", "dilation", "groups"):
        value = getattr(row.geometry, name) if row.geometry else ""
        return _joined(value) if isinstance(value, tuple) else value
    if name.startswith("field"):
        return "?" if row.field_unknown else "x".join(_field_cells(row, name))
    value = getattr(row, name)
    return int(value) if isinstance(value, bool) else value


_FIELD = {
    "field": "size",
    "field_local": "local_size",
    "field_min": "min_size",
    "field_stride": "stride",
    "field_padding": "padding",
}


def _field_cells(row: LayerRow, name: str) -> list[str]:
    """One number per axis; `all` for the whole, nothing where there is none."""
    values = [getattr(axis, _FIELD[name]) for axis in row.field or ()]
    if name in ("field", "field_local") and set(values) != {None}:
        return ["all" if v is None else str(v) for v in values]
    if name == "field":
        return ["all" for _ in values]
    return [] if set(values) == {None} else ["" if v is None else str(v) for v in values]


def _joined(sizes: Shape) -> str:
    return "x".join(map(str, sizes))
