"""A report that shows itself: one class for all of them, drawn as the command line draws them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack

import msgspec

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api.plots import Plot
    from cnnscope.records.explain import ModelExplanation
    from cnnscope.records.summary import ModelReport, Totals

R = TypeVar("R")
_AROUND = 11  # lines above and below a table, and the next prompt
_LEAST = 29  # rows of a table, however low the terminal is


class View(TypedDict, total=False):
    """Which rows and columns are shown; what is left out is as the command line has it.

    Attributes:
        depth: levels of the call tree, 0 for all (`summary`, `rf`, `diff`, `checkpoint`).
        unfold: show equal blocks one by one (`summary`, `rf`, `diff`).
        everything: show views, slices and bookkeeping as well (`summary`, `diff`).
        columns: such as ("layer", "output", "params", "macs") (`summary`).
        sort: list layers by "macs", "params", "element-ops" or "activation" (`summary`).
        filter: only layers whose path or operation matches this glob (`summary`).
        findings: True shows all of them, False none; left out, the first few (`summary`).
        room: rows that a table has at most where no depth is given (`summary`, `rf`, `diff`).
        projections: show the projections of shortcuts as well (`stages`).
    """

    depth: int | None
    unfold: bool
    everything: bool
    columns: Sequence[str] | None
    sort: str | None
    filter: str | None
    findings: bool | None
    room: int
    projections: bool


_ROWS = frozenset({"depth", "unfold", "everything", "room"})
_TAKES = {  # by the name of a record, so that each answer imports its own alone
    "ModelReport": _ROWS | {"columns", "sort", "filter", "findings"},
    "DiffReport": _ROWS,
    "CheckpointReport": frozenset({"depth"}),
    "FieldReport": frozenset({"depth", "unfold", "room"}),
    "StagesReport": frozenset({"projections"}),
}


class Report(msgspec.Struct, Generic[R], frozen=True):
    """An answer: the table of the command where it is printed, HTML in a notebook.

    The fields of the record are fields of the report: `report.totals` is `report.record.totals`.

    Attributes:
        record: the plain, frozen data.
        shown: which rows and columns are shown; see `View`.
    """

    record: R
    shown: View = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("record", "shown"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.record, name)

    @property
    def totals(self: Report[ModelReport] | Report[ModelExplanation]) -> Totals:
        """Sums over the whole model: of a summary, and of the explanation of a model."""
        return self.record.totals

    def __dir__(self) -> list[str]:
        names = {*super().__dir__(), *dir(self.record)}
        return sorted(name for name in names if hasattr(self, name))

    def view(self, **view: Unpack[View]) -> Report[R]:
        """The report with other rows and columns shown.

        Args:
            view: see `View`.

        Raises:
            RequestError: one of them has no effect on this kind of report.
        """
        if useless := sorted(set(view) - _takes(self.record)):
            kind = type(self.record).__name__
            raise RequestError(f"{', '.join(useless)}: without effect on a {kind}; leave them out")
        return msgspec.structs.replace(self, shown=view)

    def fitted(self, lines: int) -> Report[R]:
        """The report for a terminal of so many lines, where its table can be shorter or longer.

        Args:
            lines: of the terminal.
        """
        if "room" not in _takes(self.record):
            return self
        from cnnscope.render.tree import AUTO_ROWS

        room = min(max(lines - _AROUND, _LEAST), AUTO_ROWS)
        return msgspec.structs.replace(self, shown={**self.shown, "room": room})

    def table(self, *, width: int | None = None, **view: Unpack[View]) -> str:
        """The report as text.

        Args:
            width: of the terminal, in characters; left out, as wide as it needs to be.
            view: see `View`.

        Raises:
            RequestError: an unknown column or sort key, or a filter that matches nothing.
        """
        with undrawn():
            from cnnscope.render.page import text

            return text(self.page(**view), width).plain

    def page(self, **view: Unpack[View]) -> Any:
        """The report as a page of `cnnscope.render`, to be drawn in any format.

        Args:
            view: see `View`.

        Raises:
            RequestError: see `table`.
        """
        with undrawn():
            from cnnscope.render import drawing

            shown = self.view(**view).shown if view else self.shown
            return drawing.page(self.record, **_options(self.record, shown))

    def plot(self, axes: str | None = None) -> Plot:
        """The report as a chart, which shows itself and has `save("chart.svg")`.

        There is one of `summary`, `rf`, `bench`, `sweep`, `memory` and `list_models`.

        Args:
            axes: of a list of models, two of its figures, as in "macs:acc"; left out, those of
                `pareto`.

        Raises:
            RequestError: the report has no chart, or no such axes.
        """
        from cnnscope.api import plots

        return plots.of(self.record, axes)

    def to_dict(self) -> dict[str, Any]:
        """The whole report as dicts, lists, strings and numbers, as `--format json` writes it."""
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.record))
        return built

    def to_json(self) -> str:
        """The whole report as JSON, raw numbers in base units, as `--format json` writes it."""
        return self.write("json")

    def to_csv(self) -> str:
        """CSV with a line per row, raw numbers in base units, as `--format csv` writes it."""
        return self.write("csv")

    def to_markdown(self) -> str:
        """The tables as Markdown, as `--format markdown` writes them."""
        return self.write("markdown")

    def to_latex(self) -> str:
        """The tables for a paper."""
        return self.write("latex")

    def to_pandas(self) -> Any:
        """The rows of `to_csv` as a `pandas.DataFrame`: numbers, truths and shapes as they are.

        Raises:
            RequestError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise RequestError(
                f"to_pandas needs pandas, which cannot be imported ({error}): pip install pandas; "
                "to_dict() and to_csv() do without"
            ) from error
        with undrawn():
            from cnnscope.render import drawing

            columns, rows = drawing.sheet(self.record)
        return pd.DataFrame(rows, columns=list(columns))

    def write(self, format_: str) -> str:
        """The report in a format.

        Args:
            format_: "table", "json", "csv", "markdown", "latex" or "html". JSON and CSV hold the
                whole report, whatever is shown.

        Raises:
            RequestError: see `table`.
        """
        with undrawn():
            from cnnscope.render import drawing

            return drawing.write(self.record, format_, **_options(self.record, self.shown))

    def __str__(self) -> str:
        return self.table(width=terminal_width())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For a notebook."""
        return self.write("html")


def _takes(record: object) -> frozenset[str]:
    return _TAKES.get(type(record).__name__, frozenset())


def _options(record: object, view: View) -> Mapping[str, Any]:
    """Arguments of the page in the report's file of `render/`."""
    shown: dict[str, Any] = dict(view)
    if type(record).__name__ == "CheckpointReport":
        return {"levels": shown.get("depth")}
    if "room" not in _takes(record):  # no tree of rows
        return shown
    from cnnscope.render.tree import Options

    columns = shown.pop("columns", None)
    kept = {name: shown.pop(name) for name in ("findings",) if name in shown}
    options: dict[str, Any] = {"options": Options(**shown), **kept}
    if isinstance(columns, str):
        columns = columns.split(",")
    return options | ({"columns": tuple(columns)} if columns is not None else {})


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave random numbers as they are: rich draws one when it is imported."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def terminal_width() -> int | None:
    """Characters per line of the terminal that stdout is, if it is one."""
    import shutil

    isatty = getattr(sys.stdout, "isatty", None)
    return shutil.get_terminal_size().columns if isatty is not None and isatty() else None
