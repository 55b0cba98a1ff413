"""The report as JSON and CSV: raw integers in base units (elements, bytes, operations)."""

import csv
import io

import msgspec

from cnnscope.records import LayerRow, ModelReport, Shape

CSV_COLUMNS = (
    "path", "depth", "kind", "operation", "call", "input_shapes", "output_shapes",
    "kernel_size", "stride", "padding", "dilation", "groups",
    "params", "trainable_params", "buffers", "macs", "flops", "element_ops",
    "activation_bytes", "unknown_ops", "minor",
)  # fmt: skip


def to_json(report: ModelReport) -> str:
    """The whole report; its schema is `summary.schema.json` beside the package."""
    encoded = msgspec.json.encode(report)
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def schema() -> bytes:
    """The JSON Schema of the report."""
    encoded = msgspec.json.encode(msgspec.json.schema(ModelReport), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def to_csv(report: ModelReport) -> str:
    """One line per row of the report, blocks and what is inside them alike (see `depth`)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
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
    value = getattr(row, name)
    return int(value) if isinstance(value, bool) else value


def _joined(sizes: Shape) -> str:
    return "x".join(map(str, sizes))
