"""Reports as JSON and as CSV: raw integers in base units (elements, bytes, operations)."""

import inspect
import io
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cnnscope.records.summary import ModelReport
from cnnscope.render.escaping import spreadsheet

# Records, and mappings for what is computed; None stands for a record that there is not.
Row = Sequence[Mapping[str, object] | msgspec.Struct | None]
Sheet = tuple[Sequence[str], Iterable[Row]]  # columns, and rows that have what they name


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


def to_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A line per row: each column from the first part of it that has one, else nothing."""
    import csv  # not for the sake of a table

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([spreadsheet(_cell(_value(row, name))) for name in columns] for row in rows)
    return out.getvalue()


def values(columns: Sequence[str], rows: Iterable[Row]) -> list[list[object]]:
    """The same lines as values: numbers, truths and shapes as they are, else None."""
    return [[_value(row, name, None) for name in columns] for row in rows]


def _value(row: Row, name: str, absent: object = "") -> object:
    for part in row:
        if isinstance(part, Mapping):
            if name in part:
                return part[name]
        elif hasattr(part, name):
            return getattr(part, name)
    return absent


def _cell(value: object) -> object:
    """A shape as 3x7x7, several with semicolons, a truth as 0 or 1."""
    if isinstance(value, tuple):
        return (";" if any(isinstance(v, tuple) for v in value) else "x").join(
            str(_cell(v)) for v in value
        )
    return int(value) if isinstance(value, bool) else value
