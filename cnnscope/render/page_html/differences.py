"""Two models on one page: the rows of the diff, each with its rows in either summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnscope.records.diff import DiffReport, DiffRow
from cnnscope.records.page import PageModel
from cnnscope.records.summary import RowKey
from cnnscope.render import diff as written
from cnnscope.text import visible

_COSTS = ("params", "macs", "element_ops", "activation_bytes")


def block(report: DiffReport, models: Sequence[PageModel]) -> dict[str, Any]:
    """Sentences, aligned rows and totals.

    Args:
        report: of the two models.
        models: both of them, in the order of the report.
    """
    page = written.page(report)
    totals = page.tables[-1]
    places = [{row.key: i for i, row in enumerate(one.summary.layers)} for one in models]
    return {
        "findings": [(visible(title), visible(text)) for title, text in page.above],
        "headings": [visible(heading.title) for heading in totals.headings],
        "totals": [[visible(str(cell)) for cell in row] for row in totals.rows],
        "rows": [_row(row, places) for row in report.rows],
    }


def _row(row: DiffRow, places: Sequence[Mapping[RowKey, int]]) -> dict[str, Any]:
    """A pair of rows: status, places in either model (-1: none), what changed, its cost."""
    sides = (row.before, row.after)
    pair = [-1 if s is None else at.get(s.key, -1) for s, at in zip(sides, places, strict=True)]
    shown: dict[str, Any] = {
        "status": row.status,
        "parent": row.parent,
        "pair": pair,
        "name": visible(row.row.name),
        "path": visible(row.row.path),
        "operation": visible(written.operation_of(row.row)),
    }
    if row.changes:
        shown["changes"] = [visible(text) for text in map(written.said_of, row.changes)]
    return shown | {name: value for name in _COSTS if (value := getattr(row, name))}
