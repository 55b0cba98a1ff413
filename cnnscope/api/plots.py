"""A chart in Python: characters where it is printed, a picture in a notebook, a file to save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cnnscope.errors import RequestError
from cnnscope.text import printable

if TYPE_CHECKING:
    from cnnscope.records.catalogue import ListReport
    from cnnscope.render.plot.chart import Chart


class Plot(msgspec.Struct, frozen=True):
    """A chart of a report.

    Attributes:
        chart: panels, series and axes, as plain data.
    """

    chart: Chart

    def text(
        self, width: int | None = None, height: int | None = None, *, ascii_only: bool = False
    ) -> Any:
        """The chart as a `rich.text.Text`.

        Args:
            width: columns of the terminal; left out, 100.
            height: lines of the terminal; left out, 40.
            ascii_only: draw with the characters of ASCII alone.
        """
        from cnnscope.api.reports import undrawn

        with undrawn():
            from cnnscope.render.plot import terminal

            return terminal.draw(self.chart, width, height, ascii_only=ascii_only)

    def draw(self, format_: str) -> bytes:
        """The chart as a file, the same one each time.

        Args:
            format_: "svg", "pdf" or "png".

        Raises:
            RequestError: another format, or matplotlib is not installed.
        """
        from cnnscope.render.plot import files

        if format_ not in files.FORMATS:
            known = ", ".join(files.FORMATS)
            raise RequestError(f"{printable(format_, 40)!r}: a chart is drawn as one of {known}")
        return files.draw(self.chart, format_)

    def save(self, path: str | Path) -> None:
        """Draw the chart into a file, whole or not at all.

        Args:
            path: of the file, such as "zoo.svg"; its ending, .svg, .pdf, .png or .txt, says what
                it is.

        Raises:
            RequestError: another ending, matplotlib is not installed, or the file cannot be
                written.
        """
        from cnnscope.api.saving import save

        ending = check_ending(Path(path))
        content = self.draw(ending) if ending else f"{self}\n".encode()
        save(path, content)

    def __str__(self) -> str:
        from cnnscope.api.reports import terminal_width

        shown: str = self.text(terminal_width()).plain
        return shown.rstrip("\n")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For a notebook: the SVG where matplotlib is installed, else the characters."""
        from html import escape

        try:
            svg = self.draw("svg").decode()
        except RequestError:  # there is no matplotlib
            return f"<pre>{escape(str(self))}</pre>"
        return svg[svg.index("<svg") :]


def of(record: Any, axes: str | None = None) -> Plot:
    """The chart of a report's record.

    Args:
        record: of any report that has a chart.
        axes: two figures of a list of models, as in "macs:acc"; left out, those that are compared.

    Raises:
        RequestError: there is no chart of such a report, or nothing in it to draw.
    """
    from cnnscope.api.reports import undrawn

    if axes is not None:
        if type(record).__name__ != "ListReport":
            raise RequestError(f"plot: a {type(record).__name__} has no choice of axes; give none")
        record = _compared(record, axes)
    with undrawn():
        from cnnscope.render import plot

        return Plot(plot.chart(record))


def _compared(record: ListReport, axes: str) -> ListReport:
    from cnnscope.reports import catalogue

    return catalogue.compared(record, catalogue.pair("--plot", axes))


def check(path: Path | None, axes: str | None = None) -> bool:
    """Check what can be checked of a chart before its report is made; whether it is a picture.

    Args:
        path: of the file it is drawn into; None for the terminal.
        axes: two figures of a list of models.

    Raises:
        RequestError: no chart can be drawn like that.
    """
    if axes is not None:
        from cnnscope.reports import catalogue

        catalogue.pair("--plot", axes)
    picture = path is not None and bool(check_ending(path, "--output "))
    if picture:
        from cnnscope.render.plot import files

        files.matplotlib()  # it may be there and fail
    return picture


def check_ending(path: Path, option: str = "") -> str:
    """The format of a file by its ending, "" for text.

    Raises:
        RequestError: a chart is not written like that.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending in ("", "txt", "text"):
        return ""
    if ending not in ("svg", "pdf", "png"):
        raise RequestError(
            f"{option}{printable(str(path))}: a chart is written as .svg, .pdf, .png or .txt"
        )
    return ending
