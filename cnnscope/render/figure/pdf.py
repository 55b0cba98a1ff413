"""A scene as a PDF file, written by fpdf2: lines stay lines, and text stays text."""

from __future__ import annotations

from typing import Any

from cnnscope.errors import RequestError
from cnnscope.render.figure.fonts import SERIF
from cnnscope.render.figure.scene import Item, Polyline, Scene, Text
from cnnscope.text import visible

_CORE = "cp1252"  # what the fonts that every reader of PDF has can show
_OTHER = "other"  # font of a file, for what they cannot


def pdf(scene: Scene, title: str) -> bytes:
    """Draw a scene as PDF, on a page of its size.

    Args:
        scene: what is drawn.
        title: of the document.

    Raises:
        RequestError: fpdf2 is missing.
    """
    page = writer()(unit="pt", format=(scene.width, scene.height))
    page.set_auto_page_break(False)
    page.set_margin(0)
    page.set_title(visible(title))
    page.add_page()
    pen = _Pen(page, scene)
    for item in scene.items:
        pen.draw(item)
    return bytes(page.output())


def writer() -> Any:
    """The class of fpdf2 that writes a document.

    Raises:
        RequestError: fpdf2 cannot be imported.
    """
    try:
        from fpdf import FPDF
    except ImportError as error:
        raise RequestError(
            f"a .pdf needs fpdf2, which cannot be imported ({error}): pip install "
            "'cnnscope[figure]'; .svg, .tex and .png need nothing"
        ) from error
    return FPDF


class _Pen:
    def __init__(self, page: Any, scene: Scene) -> None:
        self.page, self.font = page, scene.font
        self.added: set[str] = set()

    def draw(self, item: Item) -> None:
        """Draw one item."""
        if isinstance(item, Text):
            self._text(item)
            return
        fill = "" if isinstance(item, Polyline) else item.fill
        style = ("D" if item.line else "") + ("F" if fill else "")
        if fill:
            self.page.set_fill_color(*_rgb(fill))
        if item.line:
            self.page.set_draw_color(*_rgb(item.line))
            self.page.set_line_width(item.width)
            self.page.set_dash_pattern(*((2, 1.5) if item.dash else ()))
        if isinstance(item, Polyline):
            self.page.polyline(item.points, style=style)
        elif style:
            self.page.polygon(item.points, style=style)

    def _text(self, text: Text) -> None:
        shown = self._selected(text)
        room = self.font.width(shown, text.size, bold=text.bold) * 1.02
        wide = self.page.get_string_width(shown)
        if wide > room:  # another font than the one that was measured
            self.page.set_font_size(text.size * room / wide)
            wide = room
        self.page.set_text_color(*_rgb(text.colour))
        shift = {"start": 0.0, "middle": wide / 2, "end": wide}[text.anchor]
        if text.turned:
            with self.page.rotation(90, text.x, text.y):
                self.page.text(text.x - shift, text.y, shown)
        else:
            self.page.text(text.x - shift, text.y, shown)

    def _selected(self, text: Text) -> str:
        """Select the font of a text; the text as that font can show it."""
        shown = visible(text.text)
        style = "B" if text.bold else ""
        core = shown.encode(_CORE, "ignore").decode(_CORE) == shown and not self.font.file
        file = "" if core else self.font.path(bold=text.bold)
        if file:
            name = _OTHER + style
            if name not in self.added:
                self.page.add_font(name, "", file)
                self.added.add(name)
            self.page.set_font(name, "", text.size)
            return shown
        family = "times" if self.font.name == SERIF else "helvetica"
        self.page.set_font(family, style, text.size)
        return shown.encode("latin-1", "replace").decode("latin-1")


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[n : n + 2], 16) for n in (1, 3, 5))
