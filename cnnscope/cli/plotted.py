"""Options of commands that draw a chart of their report.

Annotations are evaluated here, as in `options`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cnnscope.cli import options
from cnnscope.errors import RequestError
from cnnscope.text import printable

if TYPE_CHECKING:
    from cnnscope.api import Report

_PICTURES = (".svg", ".pdf", ".png")


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Charted(options.Written):
    """A command whose report can be drawn as a chart, into a terminal or a file."""

    def wants_chart(self) -> bool:
        """Return True if a chart was asked for."""
        raise NotImplementedError

    def axes(self) -> str | None:
        """Two figures for a chart that has a choice."""
        return None

    @property
    def pictured(self) -> bool:
        """True if --output is a picture of the chart; the table goes to stdout then."""
        return self.wants_chart() and self.ending in _PICTURES

    @property
    def ending(self) -> str:
        """The ending of --output."""
        return self.output.suffix.lower() if self.output is not None else ""

    def check_chart(self, rows: Mapping[str, object], reason: str) -> None:
        """Refuse what contradicts a chart, and what cannot be drawn, before the work.

        Args:
            rows: options about a table, by name, which a chart in its place leaves without effect.
            reason: why they have none.

        Raises:
            RequestError: the message.
        """
        if not self.wants_chart():
            if self.ending in _PICTURES:
                raise RequestError(
                    f"--output {printable(str(self.output))}: a picture needs a chart to show; "
                    "add --plot"
                )
            return
        from cnnscope.api import plots

        if not plots.check(self.output, self.axes()):
            chosen = self.format if self.format is not options.Format.TABLE else None
            given = {f"--format {chosen.value}": True} if chosen else {}
            options.refuse(
                given,
                "--plot draws a chart in place of the table; with --output chart.svg beside it "
                "there are both",
            )
            options.refuse(rows, reason)

    def show(self, report: "Report[Any]") -> None:
        """Write the chart, the report beside it where that is a picture, or the report alone."""
        if not self.wants_chart():
            self.write(report)
            return
        from cnnscope.cli import out

        plot = report.plot(self.axes())
        self.answered = True
        if self.pictured and self.output is not None:
            out.write_bytes(plot.draw(self.ending.removeprefix(".")), self.output)
            out.note(f"drawn to {printable(str(self.output))}")
            self.write(report)
        else:
            out.write_chart(plot, self.output)

    def write(self, report: "Report[Any]", *, drawn: bool = False) -> None:
        """Write the report, to stdout where --output is a picture."""
        super().write(report, drawn=drawn or self.pictured)


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Plotted(Charted):
    """A command whose report is drawn in one way."""

    plot: Annotated[
        bool,
        options.OUTPUT(
            "--plot",
            "Draw a chart in place of the table; with --output x.svg, .pdf or .png into "
            "that file, and the table as well.",
        ),
    ] = False

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a file behind --plot, which takes none.

        Raises:
            RequestError: a word ends as a picture does.
        """
        for word in words:
            if word.lower().endswith(_PICTURES):
                name = options.quoted(word)
                raise RequestError(f"{name}: for a chart in a file, use --plot --output {name}")

    def wants_chart(self) -> bool:
        """Return True if --plot was given."""
        return self.plot
