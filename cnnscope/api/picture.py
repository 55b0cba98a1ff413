"""The architecture figure in Python: files to save, a picture in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.records.figure import FigureContents
    from cnnscope.render.figure import Scene

FORMATS = ("svg", "pdf", "tex", "png")


class Figure(msgspec.Struct, frozen=True, dict=True):
    """The architecture figure of one model, or of several.

    Attributes:
        contents: all that the figure shows, as plain data.
        max_width: its greatest width in points (1/72 inch).
        max_height: its greatest height in points.
        font: of its text.
    """

    contents: FigureContents
    max_width: float
    max_height: float
    font: str = "sans"

    @property
    def style(self) -> str:
        """The style that it is drawn in: "lenet", "blocks", "graph" or "unet"."""
        return self.contents.style

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        return self.drawn().width, self.drawn().height

    @property
    def smallest_text(self) -> float:
        """Height of the smallest text in points."""
        from cnnscope.render.figure import smallest

        return smallest(self.drawn())

    def drawn(self) -> Scene:
        """The figure as polygons, lines and text.

        Raises:
            RequestError: the style leaves no room for text that can be read.
        """
        return self._scene

    @cached_property
    def _scene(self) -> Scene:
        from cnnscope.render.figure import Page, draw, font

        return draw(self.contents, font(self.font), Page(self.max_width, self.max_height))

    @property
    def _title(self) -> str:
        names = dict.fromkeys(flow.name for flow in self.contents.flows)
        return f"Architecture of {', '.join(names)}"

    def svg(self) -> str:
        """The figure as an SVG file."""
        from cnnscope.render.figure import svg

        return svg(self.drawn(), self._title)

    def tex(self) -> str:
        """The figure as a standalone LaTeX file that draws with TikZ."""
        from cnnscope.render.figure import tex

        return tex(self.drawn(), self._title)

    def png(self) -> bytes:
        """The figure as a PNG file, at 300 pixels an inch.

        Raises:
            RequestError: it would be too large.
        """
        from cnnscope.render.figure import png

        return png(self.drawn())

    def pdf(self) -> bytes:
        """The figure as a PDF file, whose lines are lines and whose text is text.

        Raises:
            RequestError: fpdf2 is missing.
        """
        from cnnscope.render.figure import pdf

        return pdf(self.drawn(), self._title)

    def write(self, format_: str) -> bytes:
        """The figure in a format: "svg", "pdf", "tex" or "png".

        Raises:
            RequestError: there is no such format, or it cannot be made.
        """
        made: dict[str, Callable[[], bytes]] = {
            "svg": lambda: self.svg().encode(),
            "tex": lambda: self.tex().encode(),
            "png": self.png,
            "pdf": self.pdf,
        }
        if format_ not in made:
            raise RequestError(f"no figure in {format_!r}; use one of {', '.join(FORMATS)}")
        return made[format_]()

    def save(self, path: str | Path) -> None:
        """Write the figure to a file, whole or not at all.

        Args:
            path: of the file, such as "net.pdf"; its ending chooses the format.

        Raises:
            RequestError: the file cannot be written, or its ending is no format.
        """
        from cnnscope.api.saving import save

        content = self.write(Path(path).suffix.lower()[1:] or "svg")
        save(path, content)

    def __str__(self) -> str:
        width, height = self.size
        return (
            f"{self._title}, style {self.style}, {width:.0f} x {height:.0f} pt: save('figure.svg')"
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_svg_(self) -> str:
        """For a notebook."""
        return self.svg()
