"""Every report in every format: which file of this folder makes a page and a sheet of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from cnnscope.render import data
from cnnscope.render.page import Page, markdown, text

_FILES = {  # in cnnscope.render, by the name of a record; each has `page` and `sheet`
    "BenchReport": "bench",
    "CheckAllReport": "check",
    "CheckReport": "check",
    "CheckpointReport": "checkpoint",
    "DiffReport": "diff",
    "EffectiveReport": "effective",
    "ExplainReport": "explain",
    "FieldReport": "field",
    "FitReport": "fit",
    "ListReport": "catalogue",
    "MemoryReport": "memory",
    "ModelExplanation": "explain",
    "ModelReport": "summary",
    "StackReport": "stack",
    "StagesReport": "stages",
    "SweepReport": "sweep",
    "UnitReport": "field",
    "VerifyReport": "verify",
}


def page(report: Any, **options: Any) -> Page:
    """A report as a page.

    Args:
        report: one of those that are answers to a command.
        options: which rows and columns; arguments of `page` in the report's file.

    Raises:
        RequestError: an option that the report does not know a value of.
    """
    made: Page = _file(report).page(report, **options)
    return made


def write(report: Any, format_: str, **options: Any) -> str:
    """A report in a format ("table", "json", "csv", "markdown", "latex", "html").

    JSON and CSV hold the whole report, whatever the options are.
    """
    if format_ == "json":
        return data.to_json(report)
    if format_ == "csv":
        return data.to_csv(*_file(report).sheet(report))
    if format_ == "markdown" and hasattr(_file(report), "markdown"):
        written: str = _file(report).markdown(report, page(report, **options))
        return written
    return _drawing(format_)(page(report, **options))


def sheet(report: Any) -> tuple[Sequence[str], list[list[object]]]:
    """Names of columns, and the rows of `write(report, "csv")` as values."""
    columns, rows = _file(report).sheet(report)
    return columns, data.values(columns, rows)


def _drawing(format_: str) -> Callable[[Page], str]:
    """Return the function that draws a page; formats of rare use are imported on demand."""
    if format_ in ("html", "latex"):
        drawing: Callable[[Page], str] = getattr(
            import_module(f"cnnscope.render.{format_}"), format_
        )
        return drawing
    return markdown if format_ == "markdown" else lambda page: text(page).plain


def _file(report: Any) -> Any:
    kinds = (kind.__name__ for kind in type(report).__mro__)
    name = next(_FILES[kind] for kind in kinds if kind in _FILES)
    return import_module(f"cnnscope.render.{name}")
