"""The page of `cnnscope report` in Python: a file to save, a frame in a notebook."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.records.page import PageContents

_HEIGHT = 720  # pixels of a frame in a notebook


class Html(str):
    """An HTML file as text; in a notebook it is shown in a frame of its own."""

    __slots__ = ()

    def _repr_html_(self, height: int = _HEIGHT) -> str:
        """For a notebook. The frame runs the page's script and has no access to the notebook."""
        from cnnscope.render.page_html import frame

        return frame(self, height)


class Document(msgspec.Struct, frozen=True, dict=True):
    """One page that shows a network, or two beside each other.

    Attributes:
        contents: all that the page shows, as plain data.
    """

    contents: PageContents

    def page(self) -> Html:
        """The page as one HTML file, which needs nothing else and asks for nothing."""
        return self._html

    @cached_property
    def _html(self) -> Html:
        from cnnscope.render.page_html import document

        return Html(document(self.contents))

    def svg(
        self, *, depth: int | None = None, unfold: bool = False, heat: str | None = None
    ) -> str:
        """The graph alone as an SVG file.

        Args:
            depth: levels of blocks that are open, 0 for all; left out, as many as fit a screen.
            unfold: draw all members of a repeat, and not its first one alone.
            heat: colour boxes by "macs", "params", "activations", "element-ops" or "field"; left
                out, by their kind.

        Raises:
            RequestError: an unknown cost, or a page without a graph.
        """
        from cnnscope.render.graph import View, svg

        if self.contents.graph is None:
            raise RequestError("the page has no graph to draw")
        return svg(self.contents.graph, View(depth, unfold, heat))

    def png(
        self, *, depth: int | None = None, unfold: bool = False, heat: str | None = None
    ) -> bytes:
        """The graph alone as a PNG file.

        Args:
            depth: see `svg`.
            unfold: see `svg`.
            heat: see `svg`.

        Raises:
            RequestError: an unknown cost, or a picture that is too large to draw.
        """
        from cnnscope.render.graph.png import png

        return png(self.svg(depth=depth, unfold=unfold, heat=heat))

    def save(self, path: str | Path) -> None:
        """Write the page, or the graph alone, to a file, whole or not at all.

        Args:
            path: of the file, such as "model.html"; in .svg or .png is the graph.

        Raises:
            RequestError: the file cannot be written, or has the ending of another format.
        """
        from cnnscope.api.saving import save
        from cnnscope.text import printable

        suffix = Path(path).suffix.lower()
        if suffix not in ("", ".html", ".htm", ".svg", ".png"):
            raise RequestError(
                f"{printable(str(path))}: a page ends in .html, the graph alone in .svg or .png"
            )
        text = "" if suffix == ".png" else self.svg() if suffix == ".svg" else self.page()
        content = text.encode() or self.png()
        save(path, content)

    def to_dict(self) -> dict[str, Any]:
        """The data of the page as dicts, lists, strings and numbers."""
        from cnnscope.render.page_html import block

        built: dict[str, Any] = msgspec.json.decode(block(self.contents))
        return built

    def __str__(self) -> str:
        names = " and ".join(model.summary.source.name for model in self.contents.models)
        return f"page of {names}, {len(self.page().encode()):,} bytes: save('model.html')"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For a notebook."""
        return self.page()._repr_html_()
