"""A grid of characters that are drawn on: dots of braille, symbols and text."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from cnnscope.text import visible

# Bits of a braille character by column and row of the dot, from the top.
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_FIRST = 0x2800


class Canvas:
    """Characters with a style each; a cell holds eight dots, or one character that covers them.

    Coordinates are in cells, x to the right from 0, y upwards from 0, with fractions for dots.
    """

    def __init__(self, columns: int, rows: int, *, ascii_only: bool = False) -> None:
        self.columns, self.rows = columns, rows
        self.ascii_only = ascii_only
        self._dots: dict[tuple[int, int], int] = {}
        self._texts: dict[tuple[int, int], str] = {}
        self._styles: dict[tuple[int, int], str] = {}

    def dot(self, x: float, y: float, style: str) -> None:
        """Draw the dot at a place; nothing outside."""
        column, row = int(x), int(y)
        if not (0 <= x < self.columns and 0 <= y < self.rows):
            return
        bit = _BRAILLE[int(2 * (x - column))][3 - int(4 * (y - row))]
        self._dots[column, row] = self._dots.get((column, row), 0) | bit
        self._styles.setdefault((column, row), style)

    def line(self, a: tuple[float, float], b: tuple[float, float], style: str) -> None:
        """Draw dots from one place to another one."""
        steps = max(int(2 * max(2 * abs(b[0] - a[0]), 4 * abs(b[1] - a[1]))), 1)
        for step in range(steps + 1):
            part = step / steps
            self.dot(a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]), style)

    def put(self, column: int, row: int, text: str, style: str = "") -> None:
        """Write text, over what is there; what lies outside is left out."""
        for character in visible(text):
            width = cell_len(character)
            if column >= 0 and column + width <= self.columns and 0 <= row < self.rows:
                self._write(column, row, character, width, style)
            column += width

    def _write(self, column: int, row: int, character: str, width: int, style: str) -> None:
        if not width:  # it belongs to the one before
            before = column - 1, row
            self._texts[before] = self._texts.get(before, " ") + character
            return
        for place in range(column, column + width):
            self._texts[place, row] = character if place == column else ""
            self._styles[place, row] = style

    def empty(self, column: int, row: int, width: int, but: str) -> bool:
        """Return True if some cells of a row hold nothing but a character."""
        places = [(column + n, row) for n in range(width)]
        return column + width <= self.columns and not any(
            place in self._dots or self._texts.get(place, but) != but for place in places
        )

    def lines(self) -> list[Text]:
        """Every line from the top, as wide as the canvas."""
        return [self._line(row) for row in reversed(range(self.rows))]

    def _line(self, row: int) -> Text:
        line = Text(no_wrap=True, overflow="ignore")
        for column in range(self.columns):
            line.append(self._at(column, row), self._styles.get((column, row), ""))
        return line

    def _at(self, column: int, row: int) -> str:
        place = column, row
        if place in self._texts:
            return self._texts[place]
        dots = self._dots.get(place, 0)
        if not dots:
            return " "
        return "." if self.ascii_only else chr(_FIRST + dots)
