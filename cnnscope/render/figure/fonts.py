"""Fonts of a figure: how wide text is, and what each file format calls them.

Widths of "sans" are those of Helvetica and Arial, of "serif" those of Times; any other font is
measured in its file. No drawing library is needed to know where text ends.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.render.graph import boxes
from cnnscope.text import printable

SANS, SERIF = "sans", "serif"
_BOLD = 1.07  # width of bold letters to that of others
# Widths of Times in thousandths of the size; what is not here is 500 wide (Adobe's font metrics).
_TIMES = {
    letter: size
    for letters, size in (
        ("'|", 200), (" ,.ijlt:;/\\", 278), ("!()[]-frI", 333), ("?aceszJ", 444), ("s", 389),
        ("FPS", 556), ("+<>=~\N{MULTIPLICATION SIGN}", 564), ("ETLZ", 611), ("BCR", 667),
        ("ADGHKNOQUVXYw", 722), ("m&", 778), ("%", 833), ("M", 889), ("@", 921), ("W", 944),
    )
    for letter in letters
}  # fmt: skip
_WIDE = 0x2E80  # from here on characters are as wide as high
_FILES = {
    SANS: (
        ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
        ("arial.ttf", "arialbd.ttf"),
        ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ),
    SERIF: (
        ("LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf"),
        ("times.ttf", "timesbd.ttf"),
        ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    ),
}
_FAMILIES = {
    SANS: "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif",
    SERIF: "Times, 'Times New Roman', 'Liberation Serif', 'DejaVu Serif', serif",
}


class Font(NamedTuple):
    """A font: `name` is "sans", "serif", or a family of the machine whose file is `file`."""

    name: str = SANS
    file: str = ""

    def width(self, text: str, size: float, *, bold: bool = False) -> float:
        """Width of a text in the unit of its size."""
        if self.file:
            return float(_face(self.file, 100).getlength(text)) * size / 100
        if self.name == SERIF:
            parts = (1000 if ord(c) >= _WIDE else _TIMES.get(c, 500) for c in text)
            plain = sum(parts) * size / 1000
        else:
            plain = boxes.width(text, size)
        return plain * _BOLD if bold else plain

    @property
    def family(self) -> str:
        """Names for a style sheet, the wished one first."""
        if self.file:
            return f"'{_plain(self.name)}', {_FAMILIES[SANS]}"
        return _FAMILIES[self.name]

    def face(self, size: float, *, bold: bool = False) -> Any:
        """The font of Pillow at so many pixels; its own where the machine has none of the files."""
        for name in ((self.file, self.file),) if self.file else _FILES[self.name]:
            try:
                return _face(name[bold], size)
            except OSError:
                continue
        from PIL import ImageFont

        return ImageFont.load_default(size)

    def path(self, *, bold: bool = False) -> str:
        """The file of the font, "" where the machine has none."""
        return str(getattr(self.face(10, bold=bold), "path", "") or "")


def font(name: str) -> Font:
    """A font by its name.

    Args:
        name: "sans", "serif", a family that the machine has ("DejaVu Sans"), or its file.

    Raises:
        RequestError: the machine has no such font.
    """
    if name in (SANS, SERIF):
        return Font(name)
    name = str(name)
    joined = name.replace(" ", "")
    tried = (name, f"{name}.ttf", f"{joined}.ttf", f"{joined}-Regular.ttf", f"{joined}-Regular.otf")
    for file in tried:
        try:
            face = _face(file, 100)
        except (OSError, ValueError):
            continue
        family = str(face.getname()[0] or Path(file).stem)
        return Font(family, str(face.path))
    raise RequestError(
        f"no font {printable(name)!r} on this machine: take sans or serif, a family as in "
        "'DejaVu Sans', or the path of a .ttf or .otf file"
    )


def _plain(name: str) -> str:
    """A family's name without what ends a string of a style sheet."""
    return "".join(c for c in name if c.isalnum() or c in " -_")


@cache
def _face(file: str, size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(file, size)
