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

    def save(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all.

        Args:
            path: of the file, such as "model.html".

        Raises:
            RequestError: the file cannot be written.
        """
        from cnnscope.files import write_whole
        from cnnscope.text import printable

        try:
            write_whole(Path(path), self.page().encode())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(f"{printable(str(path))}: cannot be written ({reason})") from error

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
